"""What a browser may ask for, by name. Each returns the selection afterwards, with a notice for the person."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from cluster.console.port import ConsoleRefused, Source, Wish
from cluster.console.scene import Scene
from cluster.console.selection import Selection, filtered, text, turn_page
from cluster.console.words import Words
from policies.canary import WEIGHT_MAX
from policies.model.workload import TrialKind

HOURS_MAX = 7 * 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One action of one person."""

    source: Source
    token: str
    scene: Scene
    selection: Selection
    words: Words
    fields: dict[str, Any]

    def field(self, name: str) -> str:
        """Return what the browser sent, as bounded text."""
        return text(self.fields.get(name))

    def count(self, name: str, *, least: int, most: int) -> int:
        """Return what the browser sent as a number inside its bounds."""
        digits = self.field(name)
        return min(most, max(least, int(digits))) if digits.isascii() and digits.isdigit() else least


Action = Callable[[Asked], Awaitable[Selection]]


async def perform(asked: Asked) -> Selection:
    """Return the selection after the action; a refusal becomes a notice, an unknown action changes nothing."""
    action = ACTIONS.get(text(asked.fields.get("do")))
    if action is None:
        return asked.selection
    try:
        return await action(asked)
    except ConsoleRefused as refusal:
        return replace(asked.selection, notice=asked.words("refused", text=str(refusal)))


async def _filter(asked: Asked) -> Selection:
    return replace(asked.selection, search=asked.field("search"), state=asked.field("state"), page=1)


async def _page(asked: Asked) -> Selection:
    matching = len(filtered(asked.scene.claims, asked.selection))
    return turn_page(asked.selection, matching, -1 if asked.field("step") == "-1" else 1)


async def _select(asked: Asked) -> Selection:
    return replace(asked.selection, device=asked.field("device"))


async def _offer(asked: Asked) -> Selection:
    offer = await asked.source.offer(asked.token, _wish(asked), asked.words)
    return replace(asked.selection, offer="\n".join(offer.lines), offered=offer.acceptable, notice="")


async def _submit(asked: Asked) -> Selection:
    wish = _wish(asked)
    await asked.source.submit(asked.token, wish)
    return replace(asked.selection, offer="", offered=False, notice=asked.words("ask.sent", claim=wish.claim))


async def _delete(asked: Asked) -> Selection:
    await asked.source.delete(asked.token, asked.field("claim"))
    return replace(asked.selection, notice=asked.words("done.delete", claim=asked.field("claim")))


async def _try(asked: Asked) -> Selection:
    claim, variant = asked.field("claim"), asked.field("variant")
    await asked.source.start_canary(asked.token, claim, variant, asked.count("weight", least=0, most=WEIGHT_MAX))
    return replace(asked.selection, notice=asked.words("done.try", claim=claim, variant=variant))


async def _weigh(asked: Asked) -> Selection:
    claim, part = asked.field("claim"), asked.count("weight", least=0, most=WEIGHT_MAX)
    await asked.source.weigh_canary(asked.token, claim, part)
    trials = (one.claim.canary for one in asked.scene.claims if one.claim.canary and one.claim.canary.of == claim)
    key = "done.weigh.shadow" if any(one.trial is TrialKind.SHADOW for one in trials) else "done.weigh"
    return replace(asked.selection, notice=asked.words(key, claim=claim, part=part))


async def _promote(asked: Asked) -> Selection:
    await asked.source.promote_canary(asked.token, asked.field("claim"))
    return replace(asked.selection, notice=asked.words("done.promote", claim=asked.field("claim")))


async def _end(asked: Asked) -> Selection:
    await asked.source.end_canary(asked.token, asked.field("claim"))
    return replace(asked.selection, notice=asked.words("done.end", claim=asked.field("claim")))


async def _key(asked: Asked) -> Selection:
    shares = asked.scene.shares
    tenant = asked.scene.viewer.tenant or (shares[0].entitlement.tenant if shares else "")
    return replace(asked.selection, secret=await asked.source.make_key(asked.token, tenant))


async def _revoke(asked: Asked) -> Selection:
    await asked.source.revoke(asked.token, asked.field("prefix"))
    return replace(asked.selection, notice=asked.words("done.revoke", prefix=asked.field("prefix")))


async def _cordon(asked: Asked) -> Selection:
    await asked.source.cordon(asked.token, asked.field("subject"), asked.field("reason"))
    return replace(asked.selection, notice=asked.words("done.drain", subject=asked.field("subject")))


async def _uncordon(asked: Asked) -> Selection:
    await asked.source.uncordon(asked.token, asked.field("subject"))
    return replace(asked.selection, notice=asked.words("done.uncordon", subject=asked.field("subject")))


async def _mode(asked: Asked) -> Selection:
    hours = asked.count("hours", least=1, most=HOURS_MAX)
    await asked.source.propose_mode(asked.token, asked.field("mode"), hours, asked.field("reason"))
    return replace(asked.selection, notice=asked.words("cluster.mode.proposed"))


async def _approve(asked: Asked) -> Selection:
    await asked.source.approve(asked.token, asked.field("id"))
    return replace(asked.selection, notice=asked.words("done.approve"))


ACTIONS: dict[str, Action] = {
    "filter": _filter,
    "page": _page,
    "select": _select,
    "offer": _offer,
    "submit": _submit,
    "delete": _delete,
    "try": _try,
    "weigh": _weigh,
    "promote": _promote,
    "end": _end,
    "key": _key,
    "revoke": _revoke,
    "cordon": _cordon,
    "uncordon": _uncordon,
    "mode": _mode,
    "approve": _approve,
}


def _wish(asked: Asked) -> Wish:
    most = asked.count("max", least=1, most=1000)
    return Wish(
        tenant=asked.field("tenant"),
        name=asked.field("name"),
        model=asked.field("model"),
        min_replicas=asked.count("min", least=1, most=most),
        desired_replicas=asked.count("desired", least=0, most=most),
        max_replicas=most,
        priority_class=asked.field("class") or "standard",
    )
