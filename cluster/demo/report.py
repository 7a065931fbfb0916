"""What the story showed: a timeline with measured times, and each promise with its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.cli.columns import move_columns
from cluster.cli.screen import Column, table
from cluster.client import Client
from cluster.demo.traffic import Asked
from cluster.demo.witness import Testimony, unproved_moves

MEDIAN, HIGH = 50, 95
SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A promise, and whether it was kept."""

    name: str
    passed: bool
    detail: str = ""


def checks(client: Client, seen: Testimony, asked: dict[str, list[Asked]], first_event: int) -> list[Check]:
    """Return every promise that the story is held to."""
    everything = [request for requests in asked.values() for request in requests]
    lost = [request for request in everything if not request.answered]
    moves, unproved = unproved_moves(client, first_event)
    verdict = client.get("/v1/audit/verify")
    return [
        Check(
            name="every request of both domains was answered",
            passed=bool(everything) and not lost,
            detail=_few([f"{r.claim}: {r.status} {r.detail}" for r in lost]) or f"{len(everything)} requests",
        ),
        Check(
            name="no device was ever seen in two domains at once",
            passed=seen.samples > 0 and not seen.shared,
            detail=_few(seen.shared) or f"{seen.samples} samples",
        ),
        Check(
            name="each change of domain has a passed proof before it, by the sealed log",
            passed=moves > 0 and not unproved,
            detail=_few(unproved) or f"{moves} changes of domain",
        ),
        Check(
            name="civil was never under its floor",
            passed=seen.samples > 0 and not seen.starved,
            detail=_few(seen.starved) or f"{seen.samples} samples",
        ),
        Check(
            name="the audit log holds from its first record to its last",
            passed=verdict["first_bad"] is None,
            detail=verdict["cause"] or f"{verdict['records']} records",
        ),
    ]


def summary(
    lines: list[tuple[int, str]], moves: list[dict[str, Any]], asked: dict[str, list[Asked]], found: list[Check]
) -> str:
    """Return timeline, moves, answers and checks as text."""
    recent = [move for move in moves if move["stages"][-1]["name"] == "answering"][-4:]
    parts = [
        "\nTimeline",
        *(f"{at / 1000:7.1f} s  {sentence}" for at, sentence in lines),
        "\nDevices that changed domain, seconds by stage",
        table(recent, move_columns(0)),
        "Answers",
        table([_answers(claim, requests) for claim, requests in sorted(asked.items())], ANSWER_COLUMNS),
        "Promises",
        *(f"  [{'kept' if check.passed else 'BROKEN'}] {check.name}: {check.detail}".rstrip(": ") for check in found),
    ]
    return "\n".join(parts) + "\n"


ANSWER_COLUMNS = [
    Column(title="CLAIM", cell=lambda row: row["claim"]),
    Column(title="ASKED", cell=lambda row: row["asked"], right=True),
    Column(title="ANSWERED", cell=lambda row: row["answered"], right=True),
    Column(title="MEDIAN", cell=lambda row: f"{row['median']} ms", right=True),
    Column(title="95 %", cell=lambda row: f"{row['high']} ms", right=True),
]


def _answers(claim: str, requests: list[Asked]) -> dict[str, Any]:
    times = sorted(request.took_ms for request in requests) or [0]
    return {
        "claim": claim,
        "asked": len(requests),
        "answered": sum(request.answered for request in requests),
        "median": times[len(times) * MEDIAN // 100],
        "high": times[min(len(times) - 1, len(times) * HIGH // 100)],
    }


def _few(sentences: list[str]) -> str:
    shown = "; ".join(dict.fromkeys(sentences[:SHOWN]))
    return shown + (f"; and {len(sentences) - SHOWN} more" if len(sentences) > SHOWN else "")
