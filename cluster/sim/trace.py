"""Traces of what was asked for, when and for how long: a CSV file, one claim a line."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from policies.model.units import WHOLE_GPU_MILLIS, ClaimId, ModelId, TenantId
from policies.model.workload import Claim, ClaimKind, Shape

COLUMNS = ("at_s", "claim", "kind", "priority_class", "replicas", "devices", "gpu_millis", "memory_mib", "duration_s")
MOST_LINES = 200_000
"""Lines in one trace; each is a claim that virtual time has to live through."""


class TraceFault(Exception):
    """A line of a trace cannot be read."""

    code = "trace_fault"

    def __init__(self, file: str, line: int, fault: str) -> None:
        super().__init__(file, line, fault)
        self.file, self.line, self.fault = file, line, fault

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.fault}; a trace is CSV with the columns {', '.join(COLUMNS)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One line: a claim, when it is made and how long it lasts."""

    at_s: int
    """Seconds after the beginning of the trace."""
    claim: Claim
    duration_s: int
    """For a job its run time, counted while all of its replicas run; for serving the time until it is taken back."""


def parse(text: str, file: str = "<trace>") -> tuple[Arrival, ...]:
    """Return the arrivals in the order of their time, equal times in the order of their names.

    Raises ``TraceFault`` with file and line for a column that is missing, a number that is none or below its least
    value, a claim named twice, an empty trace, or more than ``MOST_LINES`` lines.
    """
    rows = csv.DictReader(io.StringIO(text))
    if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
        raise TraceFault(file, 1, f"the columns {', '.join(missing)} are missing")
    found: dict[ClaimId, Arrival] = {}
    for line, row in enumerate(rows, start=2):
        arrival = _arrival(row, file, line)
        if arrival.claim.id in found:
            raise TraceFault(file, line, f"{arrival.claim.id} was named on an earlier line")
        if len(found) == MOST_LINES:
            raise TraceFault(file, line, f"more than {MOST_LINES} lines; cut the trace")
        found[arrival.claim.id] = arrival
    if not found:
        raise TraceFault(file, 1, "no line follows the header")
    return tuple(sorted(found.values(), key=lambda one: (one.at_s, one.claim.id)))


def _arrival(row: dict[str, str | None], file: str, line: int) -> Arrival:
    name = (row["claim"] or "").strip()
    tenant, colon, short = name.partition(":")
    if not (tenant and colon and short):
        raise TraceFault(file, line, f"claim {name!r} is not tenant:name")
    if (row["kind"] or "") not in set(ClaimKind):
        raise TraceFault(file, line, f"kind {row['kind']!r} is neither serving nor job")
    kind = ClaimKind(row["kind"] or "")
    replicas = _count(row, "replicas", 1, (file, line))
    shape = Shape(
        flavors=(),
        devices=_count(row, "devices", 1, (file, line)),
        gpu_millis=_count(row, "gpu_millis", 1, (file, line)),
        memory_mib=_count(row, "memory_mib", 0, (file, line)),
    )
    if shape.gpu_millis > WHOLE_GPU_MILLIS:
        raise TraceFault(file, line, f"gpu_millis {shape.gpu_millis} is more than a whole device, {WHOLE_GPU_MILLIS}")
    duration_s = _count(row, "duration_s", 1, (file, line))
    claim = Claim(
        id=ClaimId(name),
        tenant=TenantId(tenant),
        kind=kind,
        ladder=(shape,),
        model=ModelId(short) if kind is ClaimKind.SERVING else None,
        min_replicas=replicas if kind is ClaimKind.JOB else 1,
        desired_replicas=replicas,
        max_replicas=replicas,
        priority_class=(row["priority_class"] or "").strip() or "standard",
        duration_s=duration_s if kind is ClaimKind.JOB else None,
    )
    return Arrival(at_s=_count(row, "at_s", 0, (file, line)), claim=claim, duration_s=duration_s)


def _count(row: dict[str, str | None], column: str, least: int, place: tuple[str, int]) -> int:
    text = (row[column] or "").strip()
    if not text.isdecimal() or int(text) < least:
        raise TraceFault(*place, f"{column} is {text!r}, not a whole number from {least} on")
    return int(text)
