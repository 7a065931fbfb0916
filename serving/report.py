"""From the ledger to what a tenant used: pure sums, and their table as CSV and HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from serving.ledger import UsageRecord

GOOD = range(200, 300)
MILLIJOULES_PER_WH = 3_600_000
_MEDIAN, _TAIL = 50, 95


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What one tenant used of one variant of a model."""

    tenant: str
    model: str
    variant: str
    requests: int
    failed: int
    """Of the requests, those not answered."""
    prompt_tokens: int
    completion_tokens: int
    gpu_seconds: int
    energy_wh: float | None
    """Watt-hours of the devices held, idle time included; None if not metered."""
    queued_ms_p95: int
    first_ms_p50: int
    first_ms_p95: int


def summarise(records: Iterable[UsageRecord]) -> tuple[UsageRow, ...]:
    """Return one row per tenant, model and variant, sorted by these; none for no records."""
    groups: dict[tuple[str, str, str], list[UsageRecord]] = {}
    for record in records:
        groups.setdefault((record.tenant, record.model, record.variant), []).append(record)
    return tuple(_row(key, groups[key]) for key in sorted(groups))


def _row(key: tuple[str, str, str], records: list[UsageRecord]) -> UsageRow:
    answered = [record for record in records if record.status in GOOD]
    return UsageRow(
        tenant=key[0],
        model=key[1],
        variant=key[2],
        requests=len(records),
        failed=len(records) - len(answered),
        prompt_tokens=sum(record.prompt_tokens for record in records),
        completion_tokens=sum(record.completion_tokens for record in records),
        gpu_seconds=sum(record.gpu_ms for record in records) // 1000,
        energy_wh=_watt_hours([record.energy_mj for record in records]),
        queued_ms_p95=_percentile([record.queued_ms for record in records], _TAIL),
        first_ms_p50=_percentile([record.first_ms for record in answered], _MEDIAN),
        first_ms_p95=_percentile([record.first_ms for record in answered], _TAIL),
    )


def _watt_hours(parts: list[int | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return round(sum(known) / MILLIJOULES_PER_WH, 3) if known else None


def _percentile(values: list[int], percent: int) -> int:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0


def as_csv(rows: Iterable[UsageRow]) -> str:
    """Return the rows as CSV with a header; cells that a spreadsheet would run as a formula are quoted as text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_harmless(value) for value in asdict(row).values()])
    return out.getvalue()


def as_html(rows: Iterable[UsageRow], title: str) -> str:
    """Return a page of its own, to be read and printed, without scripts or anything from elsewhere.

    One table a tenant with its sum, and what all tenants used above them.
    """
    everything = list(rows)
    tenants = sorted({row.tenant for row in everything})
    tables = [_table(tenant, [row for row in everything if row.tenant == tenant]) for tenant in tenants]
    head = f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>\n{_STYLE}\n"
    body = "\n".join(tables) if tables else "<p>Nobody asked anything in this period.</p>"
    return f"{head}<h1>{html.escape(title)}</h1>\n{_sums(everything)}{body}\n{_NOTES}\n</html>\n"


def _sums(rows: list[UsageRow]) -> str:
    requests, failed = sum(row.requests for row in rows), sum(row.failed for row in rows)
    energy = [row.energy_wh for row in rows if row.energy_wh is not None]
    told = {
        "requests": _said(requests),
        "not answered": _said(failed),
        "tokens read": _said(sum(row.prompt_tokens for row in rows)),
        "tokens written": _said(sum(row.completion_tokens for row in rows)),
        "GPU seconds": _said(sum(row.gpu_seconds for row in rows)),
        "energy, Wh": _said(round(sum(energy), 3)) if energy else "not metered",
    }
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in told.items()) + "</dl>\n"


def _table(tenant: str, rows: list[UsageRow]) -> str:
    head = "".join(f"<th scope=col>{name}</th>" for name in _HEADS.values())
    lines = ["".join(f"<td>{html.escape(_cell(row, name))}</td>" for name in _HEADS) for row in rows]
    sums = "".join(f"<td>{_said(_sum(rows, name))}</td>" for name in list(_HEADS)[2:])
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return (
        f"<h2>{html.escape(tenant)}</h2>\n<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n"
        f"<tfoot><tr><th scope=row colspan=2>together</th>{sums}</tr></tfoot></table>"
    )


def _cell(row: UsageRow, name: str) -> str:
    value = getattr(row, name)
    if name == "model" and not value:
        return "no model of that name"
    if name == "energy_wh" and value is None:
        return "\u2013"
    return _said(value)


def _sum(rows: list[UsageRow], name: str) -> object:
    """Return the sum of a column; nothing for one whose rows cannot be added, or are not known."""
    known = [value for row in rows if (value := getattr(row, name)) is not None]
    return round(sum(known), 3) if known and name in _ADDED else None


def _said(value: object) -> str:
    if isinstance(value, int | float):
        return f"{value:,}".replace(",", "\u202f")  # a narrow space reads the same in every country
    return "" if value is None else str(value)


_HEADS = {
    "model": "model",
    "variant": "variant",
    "requests": "requests",
    "failed": "not answered",
    "prompt_tokens": "tokens read",
    "completion_tokens": "tokens written",
    "gpu_seconds": "GPU seconds",
    "energy_wh": "energy, Wh",
    "queued_ms_p95": "wait, 95 %, ms",
    "first_ms_p50": "first word, median, ms",
    "first_ms_p95": "first word, 95 %, ms",
}
_ADDED = ("requests", "failed", "prompt_tokens", "completion_tokens", "gpu_seconds", "energy_wh")
_STYLE = (
    "<style>body{font:15px/1.4 system-ui,sans-serif;margin:2em auto;max-width:80em;padding:0 1em;color:#1a1a1a}"
    "h1{font-size:1.6em}h2{font-size:1.15em;margin:1.6em 0 .4em}"
    "dl{display:flex;flex-wrap:wrap;gap:1em 2.5em;margin:0 0 1em}dt{color:#555}dd{margin:0;font-size:1.4em}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "td,th{border-bottom:1px solid #ccc;padding:.35em .6em;text-align:right}thead th{vertical-align:bottom}"
    "tbody td:nth-child(-n+2),thead th:nth-child(-n+2),tfoot th{text-align:left}tfoot{font-weight:600}"
    "tbody td{white-space:nowrap}"
    "p{color:#555}@media print{body{margin:0;font-size:11px}h2{break-after:avoid}tr{break-inside:avoid}}</style>"
)
_NOTES = (
    "<p>Days are in UTC. GPU seconds are those of a whole device, by the share of a replica that one of its places "
    "stands for. Energy is what the devices used while the claim held them, idle time included, shared out by device "
    "time; a dash where it was not metered. Waits are until a place was free.</p>"
)


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


COLUMNS = tuple(field.name for field in fields(UsageRow))
