"""The agent's word on its node: devices and holders into the NodeDevices status, scrubs carried out and proved."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.actuate.scrub import ScrubbedDevice, ScrubPolicy, ScrubRequest, scrub
from cluster.kubernetes.api import Api
from cluster.kubernetes.kinds import NODE_DEVICES
from cluster.kubernetes.refusals import Absent, ApiRefusal, Exists
from cluster.ports import Clock
from policies.model.proof import ScrubProof
from policies.model.units import DeviceId, NodeId, SecurityDomain

log = logging.getLogger(__name__)
Object = dict[str, Any]
PROOFS_KEPT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Eyes:
    """What the reporter looks through."""

    devices: Callable[[], tuple[str, list[Object]] | None]
    """Driver and devices in the words of the status; None while they cannot be seen."""
    holders: Callable[[], Mapping[str, str] | None]
    """Pod of each device given out; None while the kubelet does not say."""
    open_device: Callable[[DeviceId], ScrubbedDevice | None]
    """The device as scrubbing needs it; None if it is not there."""


@dataclass
class Reporter:
    """Writes when something changed, and at least every ``period_ms``. Silence makes the devices a gap."""

    api: Api
    clock: Clock
    node: NodeId
    eyes: Eyes
    period_ms: int = 30_000
    policy: ScrubPolicy = field(default_factory=ScrubPolicy)
    _last: tuple[int, Object] | None = None
    _proofs: dict[str, Object] = field(default_factory=dict)
    _running: dict[str, threading.Thread] = field(default_factory=dict)
    _is_kept: bool = False
    """Whether the proofs of an earlier run were read back."""

    def round(self) -> None:
        """Look, scrub what is asked for, report. What the API server refuses is logged and tried again."""
        try:
            report = self._report()
            self._begin_scrubs(report)
            self._write()
        except ApiRefusal as refused:
            log.warning("the report was not written: %s", refused)

    def wait(self) -> None:
        """Return once no scrub runs."""
        for thread in list(self._running.values()):
            thread.join()

    def _report(self) -> Object:
        try:
            report = self.api.get(NODE_DEVICES, None, self.node)
        except Absent:
            try:
                report = self.api.create(NODE_DEVICES, None, {"metadata": {"name": self.node}, "spec": {}})
            except Exists:
                report = self.api.get(NODE_DEVICES, None, self.node)
        if not self._is_kept:
            known = (report.get("status") or {}).get("proofs") or ()
            self._proofs = {proof["request"]: proof for proof in known}
            self._is_kept = True
        return report

    def _begin_scrubs(self, report: Object) -> None:
        for asked in (report.get("spec") or {}).get("scrubs") or ():
            name = asked["request"]
            if name not in self._proofs and name not in self._running:
                self._running[name] = threading.Thread(target=self._scrub, args=(asked,), name=f"scrub-{name}")
                self._running[name].start()

    def _scrub(self, asked: Object) -> None:
        request = ScrubRequest(
            device=DeviceId(asked["device"]),
            from_domain=SecurityDomain(asked["from"]),
            to_domain=SecurityDomain(asked["to"]),
        )
        device = self.eyes.open_device(request.device)
        if device is None:
            log.error("device %s is to be scrubbed and is not on this node", request.device)
            self._running.pop(asked["request"], None)
            return
        proof = scrub(request, device, self.policy, self.clock)
        self._proofs[asked["request"]] = in_status(asked["request"], proof)
        while len(self._proofs) > PROOFS_KEPT:
            self._proofs.pop(next(iter(self._proofs)))
        self._running.pop(asked["request"], None)

    def _write(self) -> None:
        status = self._status()
        if status is None:
            return
        now = self.clock.now_ms()
        if self._last is not None and self._last[1] == status and now - self._last[0] < self.period_ms:
            return
        body = {"status": {**status, "observedAtMs": now}}
        self.api.merge(NODE_DEVICES, None, self.node, body, "status")
        self._last = (now, status)

    def _status(self) -> Object | None:
        seen, holders = self.eyes.devices(), self.eyes.holders()
        if seen is None or holders is None:
            return None
        driver, devices = seen
        listed = [fact | ({"pod": holders[fact["uuid"]]} if fact["uuid"] in holders else {}) for fact in devices]
        return {"driver": driver, "count": len(listed), "devices": listed, "proofs": list(self._proofs.values())}


def in_status(request: str, proof: ScrubProof) -> Object:
    """Return the proof in the words of the status."""
    return {
        "request": request,
        "device": proof.device,
        "from": proof.from_domain.value,
        "to": proof.to_domain.value,
        "simulated": proof.simulated,
        "driver": proof.driver,
        "startedAtMs": proof.started_at_ms,
        "finishedAtMs": proof.finished_at_ms,
        "steps": [
            {"name": step.name, "passed": step.passed, "detail": step.detail[:500], "atMs": step.at_ms}
            for step in proof.steps
        ],
    }
