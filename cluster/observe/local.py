"""Observer of the platform on one machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cluster.embedded.nodes import Machine, worker_records
from cluster.embedded.processes import is_alive
from cluster.observe.groups import acknowledged, active, demands, groups, traffic
from cluster.observe.inventory import Inventory, kept
from cluster.observe.jobs import job_groups
from cluster.observe.parallel import Looker, Unseen
from cluster.observe.sights import DomainLooks, DomainSight
from cluster.observe.workers import WorkerProcess, with_custody, workers
from cluster.ports import Clock, Ledger
from policies.model.inventory import Group
from policies.model.snapshot import Gap, GapKind, Snapshot
from policies.model.units import WorkerId

DEVICES = "devices"


class LocalObserver:
    """Looks at both domains, the devices and the processes at once, and puts one picture together."""

    def __init__(
        self,
        here: Machine,
        ledger: Ledger,
        domains: tuple[DomainLooks, ...],
        devices: Callable[[], Inventory],
        *,
        deadline_ms: int,
        clock: Clock,
    ) -> None:
        self._here, self._ledger, self._clock = here, ledger, clock
        self._sights = {each.domain: DomainSight(domain=each.domain) for each in domains}
        self._looker = Looker(_looks(domains) | {DEVICES: devices}, deadline_ms / 1000)
        self._inventory: Inventory | None = None
        self._inventory_ms = 0
        self._generation = 0

    def observe(self) -> Snapshot:
        """Return what is seen now, without the claims; what is not seen is a Gap and keeps its last picture."""
        self._generation += 1
        seen = self._looker.look()
        now_ms = self._clock.now_ms()
        for domain, before in self._sights.items():
            self._sights[domain] = _renewed(before, seen, now_ms)
        inventory = self._renewed_inventory(seen[DEVICES], now_ms)
        records = self._ledger.devices()
        custody = {record.device: record for record in records}
        sights = tuple(self._sights.values())
        return Snapshot(
            generation=self._generation,
            observed_at_ms=now_ms,
            flavors=inventory.flavors if inventory else (),
            nodes=(inventory.node,) if inventory else (),
            devices=tuple(with_custody(device, custody) for device in inventory.devices) if inventory else (),
            workers=workers(records, self._processes(), self._sights, inventory.node.id) if inventory else (),
            groups=tuple(sorted(self._groups(sights, now_ms), key=lambda group: group.id)),
            demands=tuple(sorted((d for sight in sights for d in demands(sight)), key=lambda demand: demand.claim)),
            gaps=tuple(gap for sight in sights for gap in _gaps(sight))
            + (inventory.gaps if inventory else _blind(seen)),
            adopting=tuple(sight.domain for sight in sights if sight.apps.picture is None),
            traffic=tuple(load for sight in sights for load in traffic(sight)),
        )

    def close(self) -> None:
        """End the threads."""
        self._looker.close()

    def _groups(self, sights: tuple[DomainSight, ...], now_ms: int) -> list[Group]:
        serving = [group for sight in sights for group in groups(sight, now_ms)]
        return [*serving, *job_groups(self._here)]

    def _renewed_inventory(self, seen: Inventory | Unseen, now_ms: int) -> Inventory | None:
        if isinstance(seen, Unseen):
            return kept(self._inventory, seen.cause, self._inventory_ms) if self._inventory else None
        if seen.gaps and not seen.devices and self._inventory is not None:
            return kept(self._inventory, seen.gaps[0].cause, self._inventory_ms)
        self._inventory, self._inventory_ms = seen, now_ms
        return seen

    def _processes(self) -> tuple[WorkerProcess, ...]:
        return tuple(
            WorkerProcess(
                worker=WorkerId(record.spec.name),
                launch=record.spec.launch,
                alive=is_alive(record),
                stopping=record.stopping,
            )
            for record in worker_records(self._here)
        )


def _looks(domains: tuple[DomainLooks, ...]) -> dict[str, Callable[[], Any]]:
    looks: dict[str, Callable[[], Any]] = {}
    for each in domains:
        looks |= {
            f"{each.domain}/apps": each.apps,
            f"{each.domain}/nodes": each.nodes,
            f"{each.domain}/load": each.load,
        }
    return looks


def _renewed(before: DomainSight, seen: dict[str, Any], now_ms: int) -> DomainSight:
    after = replace(
        before,
        apps=before.apps.renewed(seen[f"{before.domain}/apps"], now_ms),
        nodes=before.nodes.renewed(seen[f"{before.domain}/nodes"], now_ms),
        load=before.load.renewed(seen[f"{before.domain}/load"], now_ms),
    )
    return replace(after, acknowledged=acknowledged(after), active_ms=active(before, after, now_ms))


def _gaps(sight: DomainSight) -> tuple[Gap, ...]:
    """Return one gap for the cluster, whichever half of it was not seen, and one for the gateway."""
    cluster = sight.apps.gaps(GapKind.CLUSTER, sight.domain) or sight.nodes.gaps(GapKind.CLUSTER, sight.domain)
    return cluster + sight.load.gaps(GapKind.GATEWAY, sight.domain)


def _blind(seen: dict[str, Any]) -> tuple[Gap, ...]:
    return (Gap(kind=GapKind.NODE, subject="this machine", cause=seen[DEVICES].cause, since_ms=0),)
