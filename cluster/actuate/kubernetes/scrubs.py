"""Scrubs on Kubernetes: asked for in the node's NodeDevices, done by its agent, proved in its status."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cluster.actuate.kubernetes.writes import TRIES, refuse_stale
from cluster.kubernetes.api import Api
from cluster.kubernetes.kinds import FENCING, NODE_DEVICES
from cluster.kubernetes.refusals import Stale
from cluster.ports import Ledger
from policies.model.inventory import ScrubState
from policies.model.proof import DeviceRecord, ScrubProof, ScrubStep
from policies.model.units import DeviceId, NodeId, SecurityDomain

Object = dict[str, Any]


def ask(api: Api, ledger: Ledger, node: NodeId, wanted: tuple[DeviceId, SecurityDomain], fencing: int) -> None:
    """Ask the node's agent to scrub the device for another domain. Asking twice is asking once.

    Raises ``DeviceHeld`` while a worker holds the device and ``StaleGeneration`` if a newer leader wrote.
    """
    device, to_domain = wanted
    ledger.scrubbing(device, fencing)
    record = next(each for each in ledger.devices() if each.device == device)
    request = {
        "request": request_id(record),
        "device": device,
        "from": record.domain or to_domain,
        "to": to_domain,
    }
    for _ in range(TRIES):
        report = api.get(NODE_DEVICES, None, node)
        refuse_stale(report, fencing)
        asked = (report.get("spec") or {}).get("scrubs") or []
        if any(each["request"] == request["request"] for each in asked):
            return
        try:
            _write(api, report, [each for each in asked if each["device"] != device] + [request], fencing)
        except Stale:
            continue
        return


def request_id(record: DeviceRecord) -> str:
    """Return the name of the scrub that the ledger's record began: the same for every leader, new for every scrub."""
    text = f"{record.device}\x00{record.domain}\x00{record.changed_at_ms}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def collect(api: Api, ledger: Ledger, reports: tuple[Object, ...], fencing: int) -> None:
    """Record every proof that answers a scrub under way, take its request back, ask again for what nobody was asked.

    The ledger is written before the request: a crash or a silent API server in between leaves a scrub that no agent
    knows of, and plans ask only for dirty devices.
    """
    scrubbing = {record.device: record for record in ledger.devices() if record.scrub is ScrubState.SCRUBBING}
    for report in reports:
        asked = (report.get("spec") or {}).get("scrubs") or []
        proofs = {proof["request"]: proof for proof in (report.get("status") or {}).get("proofs") or ()}
        for request in asked:
            proof = proofs.get(request["request"])
            if proof is not None and _is_answer(request, proof, scrubbing.get(request["device"])):
                ledger.record_scrub(_proof(request, proof), fencing)
                del scrubbing[request["device"]]
        wanted = {request_id(record) for record in scrubbing.values()}
        if any(each["request"] not in wanted for each in asked):
            _take_back(api, report, wanted, fencing)
        for record in _unasked(report, scrubbing):
            ask(api, ledger, NodeId(report["metadata"]["name"]), (record.device, _waiting(record)), fencing)


def _unasked(report: Object, scrubbing: Mapping[DeviceId, DeviceRecord]) -> list[DeviceRecord]:
    """Return the scrubs of the node's devices that its agent has no request for; what a pod has is left alone."""
    asked = {each["request"] for each in (report.get("spec") or {}).get("scrubs") or ()}
    free = {fact["uuid"] for fact in (report.get("status") or {}).get("devices") or () if not fact.get("pod")}
    return [record for device, record in scrubbing.items() if device in free and request_id(record) not in asked]


def _waiting(record: DeviceRecord) -> SecurityDomain:
    """Return the domain that the device is scrubbed for. The ledger does not say; of two, it is the other."""
    return next(domain for domain in SecurityDomain if domain is not record.domain)


def _take_back(api: Api, report: Object, wanted: set[str], fencing: int) -> None:
    """Leave only the requests that are wanted; the agent may write its status meanwhile."""
    for attempt in range(TRIES):
        if attempt:
            report = api.get(NODE_DEVICES, None, report["metadata"]["name"])
        asked = (report.get("spec") or {}).get("scrubs") or []
        left = [each for each in asked if each["request"] in wanted]
        if left == asked:
            return
        refuse_stale(report, fencing)
        try:
            _write(api, report, left, fencing)
        except Stale:
            continue
        return


def _is_answer(request: Object, proof: Object, record: DeviceRecord | None) -> bool:
    return (
        record is not None
        and request["request"] == request_id(record)
        and (proof["device"], proof["from"], proof["to"]) == (request["device"], request["from"], request["to"])
    )


def _write(api: Api, report: Object, scrubs: list[Object], fencing: int) -> None:
    meta = {
        "name": report["metadata"]["name"],
        "resourceVersion": report["metadata"]["resourceVersion"],
        "annotations": {FENCING: str(fencing)},
    }
    api.apply(NODE_DEVICES, None, {"metadata": meta, "spec": {"scrubs": scrubs}})


def _proof(request: Object, proof: Object) -> ScrubProof:
    steps = tuple(
        ScrubStep(name=step["name"], passed=step["passed"], detail=step.get("detail", ""), at_ms=step["atMs"])
        for step in proof["steps"]
    )
    return ScrubProof(
        device=DeviceId(request["device"]),
        from_domain=SecurityDomain(request["from"]),
        to_domain=SecurityDomain(request["to"]),
        steps=steps,
        started_at_ms=proof["startedAtMs"],
        finished_at_ms=proof["finishedAtMs"],
        simulated=bool(proof.get("simulated")),
        driver=proof.get("driver", ""),
    )
