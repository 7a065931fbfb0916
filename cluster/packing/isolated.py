"""The same arrivals, owned by two domains that never share a device."""

from __future__ import annotations

import numpy as np

from cluster.packing.trace import Setting
from policies.packing.arrays import Kinds

CYCLE = 100
STEP = 37
"""Coprime to the cycle: spreads one domain's tasks evenly over the arrivals, without drawing numbers."""


def in_two_domains(one: Setting, percent: int) -> Setting:
    """Return the setting with ``percent`` of the arrivals, spread evenly, owned by a second domain.

    A device holds work of one domain at a time; it changes hands only when empty. 0 leaves everything as it is.
    """
    number = len(one.kinds.cpu)
    twice = Kinds(*(np.concatenate([column, column]) for column in one.kinds))
    domain = np.repeat(np.array([0, 1], np.int64), number)
    theirs = (np.arange(len(one.arrivals)) * STEP) % CYCLE < percent
    return Setting(
        fleet=one.fleet,
        kinds=twice._replace(domain=domain),
        typical=one.typical,
        arrivals=one.arrivals + number * theirs,
        hosts=one.hosts,
    )
