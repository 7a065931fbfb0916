"""The rules of custody: who may have a device next, what a proof changes. Pure, and the same for every ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cluster.refusals import DeviceHeld, DeviceNotClean
from policies.model.inventory import ScrubState
from policies.model.naming import worker_id
from policies.model.proof import DeviceRecord, ScrubProof
from policies.model.units import DeviceId, SecurityDomain, WorkerId


def refuse_binding(record: DeviceRecord, worker: WorkerId, domain: SecurityDomain) -> None:
    """Raise ``DeviceHeld`` or ``DeviceNotClean`` unless the worker of this domain may have the device."""
    if record.worker is not None and record.worker != worker:
        raise DeviceHeld(record.device, record.worker)
    same_domain_again = record.scrub is ScrubState.DIRTY and record.domain == domain
    if record.scrub is not ScrubState.CLEAN and not same_domain_again:
        raise DeviceNotClean(record.device, record.domain, domain)


def outdated_names(records: Iterable[DeviceRecord]) -> dict[DeviceId, WorkerId]:
    """Return, by device, what the worker that holds it is called now where it is recorded under another name.

    A worker is named after its domain and devices alone. A release that makes names in another way finds what an older
    one recorded under names that nothing else knows any more.
    """
    held: dict[tuple[WorkerId, SecurityDomain], list[DeviceId]] = {}
    for record in records:
        if record.worker is not None and record.domain is not None:
            held.setdefault((record.worker, record.domain), []).append(record.device)
    return {
        device: name
        for (recorded, domain), devices in held.items()
        if (name := worker_id(domain, tuple(devices))) != recorded
        for device in devices
    }


def after_scrub(record: DeviceRecord, proof: ScrubProof) -> DeviceRecord:
    """Return the record once the proof is in: clean and of no domain if it passed, else failed."""
    if proof.passed:
        return replace(record, scrub=ScrubState.CLEAN, domain=None)
    return replace(record, scrub=ScrubState.FAILED)
