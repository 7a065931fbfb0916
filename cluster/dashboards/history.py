"""The marks that the control plane's record asks for: its latest decisions that move something, and its modes."""

from __future__ import annotations

from cluster.client import Client
from cluster.dashboards.annotate import of_decision, of_mode
from cluster.dashboards.port import Annotation
from policies.model.codec import from_plain
from policies.model.decision import Decision
from policies.model.plan import Plan
from policies.model.policy import ModeDeclaration

DECISIONS_READ = 50
"""Newest decisions looked at in one round; a rhythm of seconds sees them all."""


def marks(client: Client, *, after: int = 0) -> tuple[tuple[Annotation, ...], int]:
    """Return the marks of decisions with a number above ``after`` and of the mode in force, and the newest number."""
    past = [each for each in client.get("/v1/decisions", limit=DECISIONS_READ) if each["number"] > after]
    found: list[Annotation] = []
    for each in sorted(past, key=lambda one: int(one["number"])):
        decision = from_plain(Decision, client.get(f"/v1/decisions/{each['number']}"))
        mark = of_decision(decision, from_plain(Plan, each["plan"]))
        found += [mark] if mark else []
    declared = client.get("/v1/policy").get("declaration")
    if declared:
        found.append(of_mode(from_plain(ModeDeclaration, declared)))
    return tuple(found), max((int(each["number"]) for each in past), default=after)
