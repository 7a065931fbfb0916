"""What is free and would do for whoever waits, but is kept for somebody ahead of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice

from policies.granting.granting import choices, need_of
from policies.granting.limits import is_allowed
from policies.granting.places import sites_on
from policies.granting.reclaim import Lot, Tier
from policies.granting.working import Allocation
from policies.model.naming import tenant_of
from policies.model.units import ClaimId

AHEAD_OF_ALL = (0, 1 << 62)
"""The strength of a need before which no device is kept."""
KEPT = "GPUs that would do are kept for"
"""Begins what is said of it; it tells of others."""
NAMED = re.compile(rf"; (?:free )?{KEPT} (?P<claims>[^;]+), ahead of it, (?P<until>until [^;]*)")
SHOWN = 4
"""Claims named, those of its own tenant first."""


def kept_from(work: Allocation, lot: Lot) -> str:
    """Return, for a lot that found no free place, what is kept from it, for whom, and for how long at the most.

    Empty if nothing is. Cost: a look at the hosts on which something is kept, once for all who wait on equal terms.
    """
    board, steps = work.board, work.board.steps
    hosts = sorted({work.survey.devices[device].node for device in board.holder})
    tier = min(lot.tier, Tier.LEFTOVER)
    options = [one for one in choices(work, lot) if is_allowed(work, lot, one, tier)] if hosts else []
    needs = [replace(need_of(work, lot, one, tier), strength=AHEAD_OF_ALL) for one in options]
    sites = (site for need in needs for host in hosts for site in islice(sites_on(board, need, host), 1))
    claims = {claim for site in sites for device in site.devices for claim in board.holder.get(device, ())}
    board.steps = steps  # what is looked at for a sentence is no part of the search for places
    names = sorted(claims - {lot.ask.claim.id}, key=lambda one: (tenant_of(one) != lot.ask.tenant.id, one))[:SHOWN]
    if not names:
        return ""
    most_s = work.survey.policy.bounds.victim_hold_ms // 1000
    return (
        f"; free {KEPT} {_and(names)}, ahead of it, "
        f"until that has its place, and for at most {most_s} s if they were freed for it"
    )


def of_own(sentence: str, is_own: Callable[[ClaimId], bool]) -> str:
    """Return what the tenant may be told of it that has the claims named by ``is_own``; empty if none is named.

    For which of its own claims devices are kept, and for how long, is its own affair.
    """
    found = NAMED.search(sentence)
    names = [one for one in map(ClaimId, found["claims"].split(" and ")) if is_own(one)] if found else []
    return f"; {KEPT} {_and(names)}, ahead of it, {found['until']}" if found and names else ""


def _and(names: Iterable[ClaimId]) -> str:
    return " and ".join(names)
