"""What a wish would bring, from the shares that its tenant may see anyway."""

from __future__ import annotations

from cluster.console.port import Offer, Wish
from cluster.console.scene import Scene, Share

WHOLE = 1_000


def offer_of(scene: Scene, wish: Wish) -> Offer:
    """Return one line per flavor that the tenant may hold: what is left of its own, and what it would borrow.

    An estimate from the latest decision, not a promise; it says so. Nothing of other tenants goes into it.
    """
    own = [share for share in scene.shares if share.entitlement.tenant == wish.tenant]
    if not own:
        return Offer(lines=("No entitlement has been decided for this tenant: it would wait.",), acceptable=True)
    lines = [_line(share, wish) for share in own]
    return Offer(
        lines=(*lines, "An estimate from the latest decision; nothing is reserved by asking."), acceptable=True
    )


def _line(share: Share, wish: Wish) -> str:
    entry = share.entitlement
    left = max(0, share.nominal_millis - (entry.held_millis - entry.borrowed_millis) - entry.lent_millis)
    back = entry.lent_millis
    parts = [f"{entry.flavor}: {left / WHOLE:g} GPUs of your own are idle"]
    if back:
        parts.append(f"{back / WHOLE:g} are lent and come back on demand")
    wanted = wish.desired_replicas * WHOLE
    if wanted > left + back:
        parts.append(f"beyond that you would borrow {(wanted - left - back) / WHOLE:g}, while others leave them idle")
    return "; ".join(parts)
