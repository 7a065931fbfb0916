"""One leader among several control planes, by a Lease that is judged by how long it stood still on our own clock."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from dataclasses import dataclass

from cluster.kubernetes.api import Api, Object, Selection
from cluster.kubernetes.kinds import FENCING, LEASES, PODS
from cluster.kubernetes.refusals import Absent, ApiRefusal, Exists, Stale
from cluster.ports import Clock

log = logging.getLogger(__name__)

ROLE = "partage.lu/role"
CONTROL_PLANE = "app.kubernetes.io/component=control-plane"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How leadership is held and given up."""

    duration_ms: int = 15_000
    """A lease that stood still this long may be taken."""
    renew_ms: int = 3_000
    """Pause between two renewals, and between two looks of one who waits."""
    margin_ms: int = 5_000
    """The leader stops deciding this long before others may take over: for slow requests and unequal clocks."""


class Election:
    """Takes, keeps and gives up the Lease. ``may_act`` is the one question that the loop asks."""

    def __init__(
        self, api: Api, clock: Clock, namespace: str, name: str, identity: str, terms: LeaseTerms | None = None
    ) -> None:
        self.identity = identity
        self.terms = terms or LeaseTerms()
        self._api, self._clock, self._namespace, self._name = api, clock, namespace, name
        self._seen: tuple[str, int] | None = None
        """Version of the lease held by another, and when we first saw it, by the monotonic clock."""
        self._renewed_ms: int | None = None
        """When the last renewal that worked was sent; None while not leading."""
        self._stopping = threading.Event()
        self.newest = 0
        """The newest fencing generation that the Lease remembers, ours included."""

    def may_act(self) -> bool:
        """Return whether this process leads and will for at least the margin."""
        if self._renewed_ms is None:
            return False
        return self._clock.monotonic_ms() - self._renewed_ms < self.terms.duration_ms - self.terms.margin_ms

    @property
    def lost(self) -> bool:
        """Whether another process took the lease from us."""
        return self._renewed_ms is None

    def attempt(self) -> bool:
        """Take or renew the lease if it may be; returns whether it is ours now. Raises nothing of the API server's."""
        sent_ms = self._clock.monotonic_ms()
        try:
            won = self._take(sent_ms)
        except (Stale, Exists):
            won = False
        except ApiRefusal as refused:
            log.warning("the lease was not reached: %s", refused)
            return self.may_act()
        self._renewed_ms = sent_ms if won else None
        return won

    def led(self, generation: int) -> None:
        """Let the Lease remember the fencing generation: it outlives a journal that is put back from a backup."""
        self.newest = max(self.newest, generation)
        self.attempt()

    def campaign(self) -> bool:
        """Wait until the lease is ours; returns False if told to stop first."""
        while not self._stopping.is_set():
            if self.attempt():
                self._announce()
                return True
            self._stopping.wait(self.terms.renew_ms / 1000)
        return False

    def keep(self) -> None:
        """Renew in a thread until the lease is lost or ``stop`` is called."""
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    def stop(self) -> None:
        """End campaigning and renewing; the lease is as it was."""
        self._stopping.set()

    def resign(self) -> None:
        """Hand the lease over: whoever waits may take it at once. Called when nothing is being written any more."""
        self.stop()
        if self._renewed_ms is None:
            return
        self._renewed_ms = None
        try:
            lease = self._api.get(LEASES, self._namespace, self._name)
            if lease["spec"].get("holderIdentity") == self.identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                self._api.replace(LEASES, self._namespace, self._name, lease)
        except ApiRefusal as refused:
            log.warning("the lease was not handed over, it will run out: %s", refused)

    def _announce(self) -> None:
        """Label the pods of the control plane by their role, so that the service sends traffic to the leader."""
        try:
            pods, _ = self._api.list_all(PODS, Selection(namespace=self._namespace, labels=CONTROL_PLANE))
            for pod in pods:
                name = pod["metadata"]["name"]
                role = "leader" if name == self.identity else "standby"
                if (pod["metadata"].get("labels") or {}).get(ROLE) != role:
                    self._api.merge(PODS, self._namespace, name, {"metadata": {"labels": {ROLE: role}}})
        except ApiRefusal as refused:
            log.warning("the leader's pod was not labelled, the service may miss it: %s", refused)

    def _keep(self) -> None:
        while not self._stopping.wait(self.terms.renew_ms / 1000):
            if not self.attempt() and self.lost:
                return

    def _take(self, now_ms: int) -> bool:
        try:
            lease = self._api.get(LEASES, self._namespace, self._name)
        except Absent:
            meta = {"name": self._name, "annotations": {FENCING: str(self.newest)}}
            self._api.create(LEASES, self._namespace, {"metadata": meta, "spec": self._spec({})})
            return True
        annotations = lease["metadata"].setdefault("annotations", {})
        self.newest = max(self.newest, int(annotations.get(FENCING, "0")))
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") not in {"", None, self.identity} and not self._stood_still(lease, now_ms):
            return False
        annotations[FENCING] = str(self.newest)
        lease["spec"] = self._spec(spec)
        self._api.replace(LEASES, self._namespace, self._name, lease)
        self._seen = None
        return True

    def _stood_still(self, lease: Object, now_ms: int) -> bool:
        version = str(lease["metadata"]["resourceVersion"])
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now_ms)
        return now_ms - self._seen[1] >= self.terms.duration_ms

    def _spec(self, old: Object) -> Object:
        now = dt.datetime.fromtimestamp(self._clock.now_ms() / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = old.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.terms.duration_ms // 1000,
            "acquireTime": old.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if ours else 1),
        }
