"""Keeps the ledger true to what the cluster shows: proofs taken in, gone workers released, given devices bound."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.actuate.kubernetes import scrubs
from cluster.actuate.kubernetes.staffing import worker_of
from cluster.actuate.kubernetes.writes import annotate, change
from cluster.kubernetes.api import Api, Selection
from cluster.kubernetes.kinds import DEVICES, PODS, RAY_NODE_TYPE_LABEL, WORKER
from cluster.kubernetes.refusals import ApiRefusal
from cluster.ports import Ledger
from cluster.refusals import Refusal
from policies.model.naming import worker_id
from policies.model.units import DeviceId, SecurityDomain, WorkerId

log = logging.getLogger(__name__)
Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the copies of the cluster show."""

    pods: tuple[Object, ...]
    reports: tuple[Object, ...]
    unreachable: frozenset[str]
    """Nodes that are not ready: what runs there is not known, so nothing is released."""


def settle(api: Api, ledger: Ledger, shown: Shown, domains: Mapping[str, SecurityDomain], fencing: int) -> None:
    """Take in proofs, bind what the kubelet gave, release what is gone. What is refused is logged, and tried again."""
    for step in (_proofs, _given, _gone):
        try:
            step(api, ledger, shown, domains, fencing)
        except (Refusal, ApiRefusal) as refusal:
            log.warning("custody not settled: %s", refusal)


def _proofs(api: Api, ledger: Ledger, shown: Shown, _domains: Mapping[str, SecurityDomain], fencing: int) -> None:
    scrubs.collect(api, ledger, shown.reports, fencing)


def _given(api: Api, ledger: Ledger, shown: Shown, domains: Mapping[str, SecurityDomain], fencing: int) -> None:
    """Name ledger and pod after the devices that were given: a device plugin chooses them itself."""
    given: dict[str, list[DeviceId]] = {}
    for report in shown.reports:
        for fact in (report.get("status") or {}).get("devices") or ():
            if fact.get("pod"):
                given.setdefault(fact["pod"], []).append(DeviceId(fact["uuid"]))
    for pod in shown.pods:
        namespace = pod["metadata"]["namespace"]
        devices = tuple(sorted(given.get(f"{namespace}/{pod['metadata']['name']}", ())))
        if namespace not in domains or not worker_of(pod) or not devices:
            continue
        actual = worker_id(domains[namespace], devices)
        if actual != worker_of(pod) and not pod["metadata"].get("deletionTimestamp"):
            _rename(api, ledger, pod, (actual, domains[namespace], devices), fencing)


def _rename(
    api: Api, ledger: Ledger, pod: Object, actual: tuple[WorkerId, SecurityDomain, tuple[DeviceId, ...]], fencing: int
) -> None:
    worker, domain, devices = actual
    ledger.release(WorkerId(worker_of(pod)), fencing)
    try:
        ledger.bind(worker, domain, devices, fencing)
    except Refusal:
        log.exception("pod %s was given devices that %s may not have; it is removed", pod["metadata"]["name"], domain)
        api.delete(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"], pod["metadata"].get("uid"))
        raise
    values = {WORKER: str(worker), DEVICES: ",".join(devices)}
    change(api, PODS, pod, fencing, lambda _: annotate(values))


def _gone(api: Api, ledger: Ledger, shown: Shown, domains: Mapping[str, SecurityDomain], fencing: int) -> None:
    """Release each worker without a pod whose devices, on reachable nodes, no pod holds. Copies alone never do it."""
    alive = {worker_of(pod) for pod in shown.pods}
    free = {
        fact["uuid"]
        for report in shown.reports
        if report["metadata"]["name"] not in shown.unreachable
        for fact in (report.get("status") or {}).get("devices") or ()
        if not fact.get("pod")
    }
    held: dict[WorkerId, list[DeviceId]] = {}
    for record in ledger.devices():
        if record.worker is not None:
            held.setdefault(record.worker, []).append(record.device)
    gone = [worker for worker, devices in held.items() if worker not in alive and free.issuperset(devices)]
    if not gone:
        return
    labels = f"{RAY_NODE_TYPE_LABEL}=worker"
    alive = {
        worker_of(pod)
        for namespace in domains
        for pod in api.list_all(PODS, Selection(namespace=namespace, labels=labels))[0]
    }
    for worker in gone:
        if worker not in alive:
            ledger.release(worker, fencing)
