"""The form that asks for capacity: the offer first, then the claim."""

from __future__ import annotations

from cluster.console.markup import Markup, join, tag
from cluster.console.scene import Scene
from cluster.console.selection import Selection
from cluster.console.words import Words


def form(scene: Scene, words: Words) -> Markup:
    """Return the form. Drawn once, so that typing is never disturbed."""
    tenants = sorted({share.entitlement.tenant for share in scene.shares})
    classes = sorted({view.claim.priority_class for view in scene.claims} | {"standard"})
    models = [tag("option", model.id, value=model.id) for model in scene.models]
    return join(
        tag("h2", words("ask.title")),
        tag(
            "form",
            _select(words("ask.tenant"), "tenant", [tag("option", each, value=each) for each in tenants]),
            _field(words("ask.name"), "name", type="text", required=True, pattern=r"[a-z0-9][a-z0-9\-]*", maxlength=63),
            _select(words("ask.model"), "model", [tag("option", words("ask.job"), value=""), *models]),
            tag(
                "div",
                _field(words("ask.min"), "min", type="number", min=1, max=1000, value=1),
                _field(words("ask.desired"), "desired", type="number", min=0, max=1000, value=1),
                _field(words("ask.max"), "max", type="number", min=1, max=1000, value=1),
                class_="three",
            ),
            _select(words("ask.class"), "class", [tag("option", each, value=each) for each in classes]),
            tag("button", words("ask.check"), type="submit"),
            data_do="offer",
            id="ask",
            class_="stacked",
        ),
    )


def offer(words: Words, selection: Selection) -> Markup:
    """Return the offer, and the button that accepts it; before that, the invitation to ask."""
    if not selection.offer:
        return tag("p", words("ask.first"), class_="empty")
    lines = [tag("p", line) for line in selection.offer.splitlines()]
    submit = tag("button", words("ask.submit"), type="button", id="ask-submit", data_do="submit", data_form="ask")
    return join(tag("h3", words("ask.offer")), *lines, submit if selection.offered else None)


def _field(label: str, name: str, **attributes: str | int | bool) -> Markup:
    return tag("label", label, tag("input", name=name, id=f"ask-{name}", autocomplete="off", **attributes))


def _select(label: str, name: str, options: list[Markup]) -> Markup:
    return tag("label", label, tag("select", *options, name=name, id=f"ask-{name}"))
