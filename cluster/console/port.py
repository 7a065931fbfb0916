"""What the console needs of the control plane: one picture to draw, and the few things a person may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cluster.console.scene import Scene, Viewer
from cluster.console.words import Words
from cluster.refusals import Refusal


class ConsoleRefused(Refusal):
    """The control plane said no, in words for the person who asked."""

    code = "console_refused"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class TokenRefused(ConsoleRefused):
    """The token is not, or no longer, accepted."""

    code = "token_refused"


class ControlPlaneSilent(ConsoleRefused):
    """The control plane does not answer."""

    code = "control_plane_silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Capacity that a person asks for in the form."""

    tenant: str
    name: str
    model: str
    """Empty for a job."""
    min_replicas: int
    desired_replicas: int
    max_replicas: int
    priority_class: str

    @property
    def claim(self) -> str:
        """Name of the claim that it becomes."""
        return f"{self.tenant}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the wish would bring if it were asked for now."""

    lines: tuple[str, ...]
    acceptable: bool
    """Whether it may be submitted."""


class Source(Protocol):
    """One control plane. Every method raises ``ConsoleRefused`` with a sentence for the person."""

    async def viewer(self, token: str) -> Viewer:
        """Return who bears the token. Raises ``TokenRefused``."""
        ...

    async def scene(self, token: str) -> Scene:
        """Return what the bearer may see now."""
        ...

    async def offer(self, token: str, wish: Wish, words: Words) -> Offer:
        """Return what the wish would bring, in words of the reader. Changes nothing."""
        ...

    async def submit(self, token: str, wish: Wish) -> None:
        """Make the wish a claim."""
        ...

    async def delete(self, token: str, claim: str) -> None:
        """Give the claim up; its requests in flight are answered first."""
        ...

    async def start_canary(self, token: str, claim: str, variant: str, weight_percent: int) -> None:
        """Try the variant on so many percent of the claim's requests."""
        ...

    async def weigh_canary(self, token: str, claim: str, weight_percent: int) -> None:
        """Give the claim's canary another part of its requests."""
        ...

    async def promote_canary(self, token: str, claim: str) -> None:
        """Make the canary's variant the claim's own."""
        ...

    async def end_canary(self, token: str, claim: str) -> None:
        """End the trial: the claim answers everything again."""
        ...

    async def make_key(self, token: str, tenant: str) -> str:
        """Make a key of 90 days for the tenant and return it, the only time that it can be."""
        ...

    async def revoke(self, token: str, prefix: str) -> None:
        """Make the key worthless."""
        ...

    async def cordon(self, token: str, subject: str, reason: str) -> None:
        """Take the node or device out of use: it is emptied and receives nothing."""
        ...

    async def uncordon(self, token: str, subject: str) -> None:
        """Put the node or device back into use."""
        ...

    async def propose_mode(self, token: str, mode: str, hours: int, reason: str) -> None:
        """Propose a mode; a second person approves it."""
        ...

    async def approve(self, token: str, proposal: str) -> None:
        """Approve what another person proposed."""
        ...
