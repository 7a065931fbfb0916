"""What is free and would do for whoever waits, but is kept for somebody ahead of it."""

from __future__ import annotations

from dataclasses import replace

from policies.granting.granting import choices, need_of
from policies.granting.limits import is_allowed
from policies.granting.places import sites_on
from policies.granting.reclaim import Lot, Tier
from policies.granting.working import Allocation

AHEAD_OF_ALL = (0, 1 << 62)
"""The strength of a need before which no device is kept."""
KEPT = "free GPUs that would do are kept for a claim ahead of it until that has its place"
"""Begins what is said of it; it tells of others."""


def kept_from(work: Allocation, lot: Lot) -> str:
    """Return, for a lot that found no free place, what is kept from it and for how long at the most; empty if nothing.

    Cost: a look at the hosts on which something is kept, once for all who wait on equal terms.
    """
    board, steps = work.board, work.board.steps
    hosts = sorted({work.survey.devices[device].node for device in board.holder})
    tier = min(lot.tier, Tier.LEFTOVER)
    options = [one for one in choices(work, lot) if is_allowed(work, lot, one, tier)] if hosts else []
    needs = [replace(need_of(work, lot, one, tier), strength=AHEAD_OF_ALL) for one in options]
    is_kept = any(True for need in needs for host in hosts for _ in sites_on(board, need, host))
    board.steps = steps  # what is looked at for a sentence is no part of the search for places
    if not is_kept:
        return ""
    return f"; {KEPT}, and for at most {work.survey.policy.bounds.victim_hold_ms // 1000} s if they were freed for it"
