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
    """Return a page of its own, without scripts or anything from elsewhere."""
    head = "".join(f"<th scope=col>{html.escape(name.replace('_', ' '))}</th>" for name in COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_said(value))}</td>" for value in asdict(row).values()) + "</tr>\n"
        for row in rows
    )
    return (
        f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>\n"
        "<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{border:1px solid #999;padding:.3em .6em;text-align:right}"
        "td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}</style>\n"
        f"<h1>{html.escape(title)}</h1>\n<table><caption>Requests, tokens and GPU time by tenant. "
        "Energy is what the devices used while "
        "the claim held them, shared out by device time; empty where it was not metered.</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></html>\n"
    )


def _said(value: object) -> str:
    return "" if value is None else str(value)


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


COLUMNS = tuple(field.name for field in fields(UsageRow))
