"""Canaries on *Models*: how much of a claim's requests a variant answers, how both do, and what to make of it."""

from __future__ import annotations

from cluster.console.markup import Markup, join, tag
from cluster.console.scene import ClaimView, Scene
from cluster.console.words import Words
from policies.canary import WEIGHT_MAX, trials
from policies.model.catalogue import Model
from policies.model.routing import VariantLoad
from policies.model.workload import Canary, TrialKind

CLAIMS_SHOWN = 12
"""Claims of one model that a trial can be started for by button; others by the command line."""
FEW = 30
"""Fewer answers than this are too few to judge a variant by."""
HEADS = ("variant", "weight", "replicas", "answered", "failed", "first", "slow")
NUMBERS = frozenset(HEADS) - {"variant"}


def of_model(model: Model, scene: Scene, words: Words) -> Markup:
    """Return the trials of the model's variants, and what starts another; nothing where no claim serves it."""
    own = {view.claim.id: view for view in scene.claims if view.claim.model == model.id}
    tried = trials(view.claim for view in own.values())
    running = [_trial(own[main], own[trial.id], scene, words) for main, trial in sorted(tried.items())]
    free = [view for name, view in sorted(own.items()) if name not in tried and view.claim.canary is None]
    return join(*running, _start(model, free, scene, words))


def _trial(main: ClaimView, trial: ClaimView, scene: Scene, words: Words) -> Markup:
    canary = trial.claim.canary or Canary(of=main.claim.id)
    name = main.claim.id
    rows = [
        *_rows(main, WEIGHT_MAX - canary.weight_percent, scene, words),
        *_rows(trial, canary.weight_percent, scene, words),
    ]
    heads = (
        tag("th", words(f"trial.{key}"), scope="col", class_="number" if key in NUMBERS else None) for key in HEADS
    )
    return tag(
        "section",
        tag("h4", words("trial.title", claim=name), id=f"trial-{name}"),
        tag("p", _state(main, trial, canary, words), class_="empty"),
        _slider(main, trial, canary, scene, words),
        tag(
            "table",
            tag("caption", words("trial.caption")),
            tag("thead", tag("tr", *heads)),
            tag("tbody", *rows),
            class_="cards",
        ),
        None if canary.promoted or "canary" not in scene.can else _verdict(main, trial, words),
        class_="trial",
        aria_labelledby=f"trial-{name}",
    )


def _state(main: ClaimView, trial: ClaimView, canary: Canary, words: Words) -> str:
    """Return in one sentence who answers now."""
    if canary.promoted:
        return words("trial.promoted", claim=main.claim.id, variant=_variants(trial))
    if not _runs(trial):
        why = trial.reason.sentence if trial.reason else words("state.unknown")
        return words("trial.waits", variant=_variants(trial), claim=main.claim.id, why=why)
    if canary.trial is TrialKind.SHADOW:
        return words("trial.shadows", variant=_variants(trial), part=canary.weight_percent, claim=main.claim.id)
    if not _runs(main):
        return words("trial.alone", variant=_variants(trial), claim=main.claim.id)
    return words("trial.splits", variant=_variants(trial), part=canary.weight_percent)


def _slider(main: ClaimView, trial: ClaimView, canary: Canary, scene: Scene, words: Words) -> Markup:
    """Return the slider; arrow keys move it by one, page keys by ten. It is sent when it rests."""
    label = words("models.canary")
    said = words("trial.split", part=canary.weight_percent, rest=WEIGHT_MAX - canary.weight_percent)
    return tag(
        "div",
        tag("span", _variants(main), class_="from"),
        tag(
            "input",
            type="range",
            min="0",
            max=WEIGHT_MAX,
            step=1,
            value=str(canary.weight_percent),
            id=f"weight-{main.claim.id}",
            data_slide="weigh",
            data_claim=main.claim.id,
            data_said=words("trial.split", part="#", rest="~"),
            aria_label=f"{label}: {main.claim.id}",
            aria_valuetext=said,
            disabled=canary.promoted or "canary" not in scene.can,
        ),
        tag("span", _variants(trial), class_="to"),
        tag("output", f"{canary.weight_percent} %", for_=f"weight-{main.claim.id}", class_="number"),
        class_="slider",
    )


def _rows(view: ClaimView, part: int, scene: Scene, words: Words) -> list[Markup]:
    """Return one row for each variant of the claim that answered, or one that says that none has."""
    loads = [load for load in scene.traffic if load.claim == view.claim.id]
    return [_row(view, part, load, words) for load in loads] or [_row(view, part, None, words)]


def _row(view: ClaimView, part: int, load: VariantLoad | None, words: Words) -> Markup:
    variant = str(load.variant) if load else _variants(view)
    groups = [group for group in view.groups if load is None or group.variant == load.variant]
    running, asked = sum(group.running for group in groups), sum(group.replicas for group in groups)
    cells = {
        "weight": f"{part} %",
        "replicas": f"{running}/{asked}",
        "answered": words.whole(load.completed) if load else "-",
        "failed": _failed(load, words),
        "first": _time(load.first_p50_ms if load else None, words),
        "slow": _time(load.first_p95_ms if load else None, words),
    }
    few = tag("small", words("trial.few")) if load and load.completed + load.failed < FEW else None
    name = tag(
        "th", tag("code", variant), tag("small", view.claim.id), few, scope="row", data_label=words("trial.variant")
    )
    return tag(
        "tr",
        name,
        *(tag("td", text, class_="number", data_label=words(f"trial.{key}")) for key, text in cells.items()),
    )


def _failed(load: VariantLoad | None, words: Words) -> str:
    if load is None:
        return "-"
    answered = load.completed + load.failed
    share = f" ({words.number(load.failed * 100_000 // answered)} %)" if load.failed else ""
    return f"{words.whole(load.failed)}{share}"


def _time(found: int | None, words: Words) -> str:
    return "-" if found is None else f"{words.whole(found)} ms"


def _verdict(main: ClaimView, trial: ClaimView, words: Words) -> Markup:
    name, variant = main.claim.id, _variants(trial)
    promote = tag(
        "button",
        words("trial.promote", variant=variant),
        type="button",
        id=f"promote-{name}",
        data_do="promote",
        data_claim=name,
        data_ask=words("trial.promote.ask", claim=name, variant=variant, before=_variants(main)),
        disabled=not _runs(trial),
    )
    end = tag(
        "button",
        words("trial.end"),
        type="button",
        id=f"end-{name}",
        class_="plain danger",
        data_do="end",
        data_claim=name,
        data_ask=words("trial.end.ask", claim=name, variant=variant),
    )
    return tag("p", promote, end, class_="actions")


def _start(model: Model, free: list[ClaimView], scene: Scene, words: Words) -> Markup | None:
    """Return a button for each variant that a claim does not run first; nothing where there is no choice."""
    if "canary" not in scene.can or not free or len(model.variants) <= 1:
        return None
    lines = [tag("li", tag("code", view.claim.id), _choices(model, view, words)) for view in free[:CLAIMS_SHOWN]]
    more = words("trial.more", count=len(free) - CLAIMS_SHOWN) if len(free) > CLAIMS_SHOWN else ""
    return tag(
        "details",
        tag("summary", words("trial.start")),
        tag("p", words("trial.start.text"), class_="empty"),
        tag("ul", *lines, class_="plainlist"),
        tag("p", more, class_="empty") if more else None,
        id=f"try-{model.id}",
    )


def _choices(model: Model, view: ClaimView, words: Words) -> Markup:
    first = view.claim.ladder[0].variant if view.claim.ladder else None
    buttons = (
        tag(
            "button",
            variant.id,
            type="button",
            id=f"try-{view.claim.id}-{variant.id}",
            class_="plain",
            data_do="try",
            data_claim=view.claim.id,
            data_variant=variant.id,
            data_ask=words("trial.start.ask", claim=view.claim.id, variant=variant.id),
            data_weight=words("models.canary"),
            aria_label=words("trial.start.label", claim=view.claim.id, variant=variant.id),
        )
        for variant in model.variants
        if variant.id != first
    )
    return tag("p", *buttons, class_="actions")


def _variants(view: ClaimView) -> str:
    """Return what runs; before anything does, what the ladder begins with."""
    running = dict.fromkeys(str(group.variant) for group in view.groups if group.running and group.variant)
    first = str(view.claim.ladder[0].variant or "-") if view.claim.ladder else "-"
    return ", ".join(running) or first


def _runs(view: ClaimView) -> bool:
    return any(group.routed and group.running for group in view.groups)
