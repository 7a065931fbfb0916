"""*Models*: the ladder of each model, where each variant runs, what its start costs."""

from __future__ import annotations

from collections import defaultdict

from cluster.console.markup import Markup, join, tag
from cluster.console.scene import Scene
from cluster.console.views import trials
from cluster.console.words import Words
from policies.model.catalogue import Model, Variant
from policies.model.inventory import Group

NUMBERS = dict.fromkeys(("memory", "quality", "speed", "cold"), "number")
HEADS = ("variant", "memory", "quality", "speed", "cold", "where")


def models(scene: Scene, words: Words) -> Markup:
    """Return one card per model of the catalogue, or per model that is asked for where there is none."""
    running: dict[tuple[str, str], list[Group]] = defaultdict(list)
    owners = {view.claim.id: str(view.claim.model or "") for view in scene.claims}
    for group in scene.groups:
        running[owners.get(group.claim, ""), str(group.variant or "")].append(group)
    nodes = {worker.id: worker.node for worker in scene.workers}
    named = {str(worker): str(node) for worker, node in nodes.items()}
    asked = set(owners.values())
    served = [_model(model, scene, (running, named), words) for model in scene.models if model.id in asked]
    others = [_model(model, scene, (running, named), words) for model in scene.models if model.id not in asked]
    empty = None if served or others else tag("p", words("models.none"), class_="empty")
    return join(tag("h2", words("models.title")), empty, *served, _others(others, words))


def _others(cards: list[Markup], words: Words) -> Markup | None:
    """Return the models that nobody asks for, folded away so that those that are served are found at once."""
    if not cards:
        return None
    return tag("details", tag("summary", words("models.others", count=len(cards))), *cards, id="models-others")


def _model(
    model: Model, scene: Scene, placed: tuple[dict[tuple[str, str], list[Group]], dict[str, str]], words: Words
) -> Markup:
    running, nodes = placed
    rows = [
        _variant(rung, variant, running.get((model.id, variant.id), []), nodes, words)
        for rung, variant in enumerate(model.variants)
    ]
    head = tag(
        "tr",
        tag("th", words("column.rung"), scope="col", class_="number"),
        *(tag("th", words(f"column.{key}"), scope="col", class_=NUMBERS.get(key)) for key in HEADS),
    )
    context = words("models.context", tokens=words.whole(model.context_tokens)) if model.context_tokens else ""
    facts = ", ".join(filter(None, (context, *model.modalities, model.licence)))
    return tag(
        "article",
        tag("h3", model.id, tag("small", facts)),
        tag("table", tag("caption", words("models.ladder")), tag("thead", head), tag("tbody", *rows), class_="cards"),
        trials.of_model(model, scene, words),
        class_="model",
    )


def _variant(rung: int, variant: Variant, groups: list[Group], nodes: dict[str, str], words: Words) -> Markup:
    quality = max((shape.quality for shape in variant.shapes), default=0)
    where = _where(groups, nodes, words)
    cold = words.span(variant.cold_start_ms) if variant.cold_start_ms else "-"
    made = ", ".join(filter(None, (variant.engine, variant.precision)))
    return tag(
        "tr",
        tag("td", rung + 1, class_="number", data_label=words("column.rung")),
        tag(
            "th",
            tag("code", variant.id),
            tag("small", made),
            scope="row",
            data_label=words("column.variant"),
        ),
        tag("td", f"{words.whole(variant.weights_mib)} MiB", class_="number", data_label=words("column.memory")),
        tag(
            "td",
            f"{words.number(quality * 100)} %" if quality else "-",
            class_="number",
            data_label=words("column.quality"),
        ),
        tag("td", variant.tokens_per_s or "-", class_="number", data_label=words("column.speed")),
        tag("td", cold, tag("small", variant.provenance), class_="number", data_label=words("column.cold")),
        tag("td", tag("ul", *where) if where else words("models.nowhere"), data_label=words("column.where")),
        class_="runs" if where else None,
    )


def _where(groups: list[Group], nodes: dict[str, str], words: Words) -> list[Markup]:
    """Return one line per claim: replicas, nodes, requests inside."""
    lines = []
    for claim in sorted({group.claim for group in groups}):
        own = [group for group in groups if group.claim == claim]
        hosts = ", ".join(sorted({nodes.get(group.worker, group.worker) for group in own}))
        running, asked = sum(group.running for group in own), sum(group.replicas for group in own)
        inside = [group.in_flight for group in own if group.in_flight is not None]
        flight = tag("small", words("models.inflight", count=sum(inside))) if inside else None
        said = words("models.replicas", running=running, asked=asked, node=hosts)
        lines.append(tag("li", tag("code", claim), tag("span", said), flight))
    return lines
