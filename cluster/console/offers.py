"""An offer in words: what would come now, of which kind, at whose cost, and when the rest."""

from __future__ import annotations

from typing import Any

from cluster.console.port import Offer
from cluster.console.words import Words


def offer_of(found: dict[str, Any], words: Words, now_ms: int) -> Offer:
    """Return the control plane's answer as sentences; the last one says that it is an estimate."""
    reason = found["reason"]
    granted, wanted = int(found["granted_replicas"]), int(found["wanted_replicas"])
    first = words("offer.granted", granted=granted, wanted=wanted)
    if found["variant"]:
        first += ", " + words("offer.variant", variant=found["variant"])
    lines = [first]
    if found["borrowed_millis"] > 0:
        lines.append(words("offer.borrowed", gpus=words.number(found["borrowed_millis"])))
    if found["displaces_own"]:
        lines.append(words("offer.own", claims=", ".join(found["displaces_own"])))
    if found["displaces_others"]:
        lines.append(words("offer.others"))
    if granted < wanted:
        lines += [str(reason["sentence"]), words("offer.when", eta=words.ahead(reason["eta_ms"], now_ms))]
    return Offer(lines=(*lines, words("offer.estimate")), acceptable=True)
