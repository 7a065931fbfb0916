"""What was asked for, as a trace: read from the audit log, to be lived through again under another policy."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from cluster.sim.trace import COLUMNS, Arrival
from policies.model.codec import from_plain
from policies.model.units import ClaimId
from policies.model.workload import Claim

PUT, DELETED = "claim.put", "claim.deleted"


def recorded(records: Iterable[Mapping[str, Any]]) -> tuple[Arrival, ...]:
    """Return an arrival for every claim that the audit records tell of, from its making to its end.

    A claim that was changed ends and begins again under its name with ``@2``, ``@3`` onwards. What has not ended lasts
    until the last record. Serving claims count with the replicas desired: measured demand is not in the log. Suspended
    claims ask for nothing and are left out. Records are in their order; empty if none is about a claim.
    """
    open_since: dict[ClaimId, tuple[int, Claim]] = {}
    times: dict[ClaimId, int] = {}
    found: list[tuple[int, int, Claim]] = []
    now = 0
    for record in records:
        now = int(record["at_ms"])
        if record["kind"] not in {PUT, DELETED}:
            continue
        name = ClaimId(str(record["subject"]))
        if name in open_since:
            since, claim = open_since.pop(name)
            found.append((since, now, claim))
        if record["kind"] == PUT:
            claim = from_plain(Claim, _body(record)["claim"])
            if not claim.suspended and claim.ladder:
                times[name] = times.get(name, 0) + 1
                again = ClaimId(f"{name}@{times[name]}") if times[name] > 1 else name
                open_since[name] = (now, replace(claim, id=again))
    found += [(since, now, claim) for since, claim in open_since.values()]
    first = min((since for since, _, _ in found), default=0)
    arrivals = [_arrival(since - first, until - since, claim) for since, until, claim in found]
    return tuple(sorted(arrivals, key=lambda one: (one.at_s, one.claim.id)))


def written(arrivals: Iterable[Arrival]) -> str:
    """Return the trace as the CSV that ``trace.parse`` reads; of a ladder its best rung is kept."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for one in arrivals:
        shape = one.claim.ladder[0]
        lines.writerow(
            (one.at_s, one.claim.id, one.claim.kind, one.claim.priority_class, max(1, one.claim.desired_replicas),
             shape.devices, shape.gpu_millis, shape.memory_mib, one.duration_s)
        )  # fmt: skip
    return text.getvalue()


def _arrival(since_ms: int, lasted_ms: int, claim: Claim) -> Arrival:
    """Return the line; a job that says how long it runs counts with that, not with how long it had to wait."""
    return Arrival(at_s=since_ms // 1000, claim=claim, duration_s=claim.duration_s or max(1, lasted_ms // 1000))


def _body(record: Mapping[str, Any]) -> dict[str, Any]:
    body = record["body"]
    found: dict[str, Any] = json.loads(body) if isinstance(body, str) else body
    return found
