"""Who of several control planes decides. On one machine there is only one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cluster.ports import Clock
from cluster.settings import Settings


class Leadership(Protocol):
    """Held by at most one process at a time."""

    @property
    def lost(self) -> bool:
        """Whether another process leads now."""
        ...

    def campaign(self) -> bool:
        """Wait until this process leads; False if told to stop first."""
        ...

    def keep(self) -> None:
        """Go on leading, in the background."""
        ...

    @property
    def newest(self) -> int:
        """The newest fencing generation that the place of the election remembers; 0 if it remembers none."""
        ...

    def led(self, generation: int) -> None:
        """Let the place of the election remember the fencing generation of this leadership."""
        ...

    def may_act(self) -> bool:
        """Return whether this process leads and will for a while."""
        ...

    def stop(self) -> None:
        """End a campaign."""
        ...

    def resign(self) -> None:
        """Let another process lead at once."""
        ...


class Alone:
    """The only control plane."""

    lost = False
    newest = 0

    def led(self, generation: int) -> None:
        """Do nothing: the journal is the only place."""

    def campaign(self) -> bool:
        """Lead at once."""
        return True

    def keep(self) -> None:
        """Do nothing: nobody else asks."""

    def may_act(self) -> bool:
        """Return True."""
        return True

    def stop(self) -> None:
        """Do nothing."""

    def resign(self) -> None:
        """Do nothing."""


def alone(_settings: Settings, _clock: Clock) -> Leadership:
    """Return the leadership of a machine with one control plane."""
    return Alone()


def by_lease(settings: Settings, clock: Clock) -> Leadership:
    """Return the leadership of a cluster, held by a Lease beside the control plane."""
    from cluster.kubernetes.adapters import election

    return election(settings, clock)


LEADERSHIPS: dict[str, Callable[[Settings, Clock], Leadership]] = {"kubernetes": by_lease}
"""By platform; platforms that are not named have one control plane."""
