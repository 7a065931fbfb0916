"""What stands on every screen: the bar, and the banners that nobody can miss."""

from __future__ import annotations

from cluster.console.icons import icon
from cluster.console.markup import Markup, join, tag
from cluster.console.scene import Scene
from cluster.console.words import LANGUAGES, NAMES, Words

VIEWS: dict[str, str] = {"capacity": "./", "models": "./models", "cluster": "./cluster"}
"""Relative, so that the console works below any path."""
THEMES = ("auto", "light", "dark")


def bar(scene: Scene, words: Words, view: str, theme: str) -> Markup:
    """Return the name, the views, the viewer and the choices of language and appearance."""
    return join(
        tag("a", words("nav.skip"), href="#main", class_="skip"),
        tag("span", tag("span", "partage", class_="name"), class_="brand"),
        tag(
            "nav",
            *(_link(scene, words, key, view) for key in VIEWS if _may_see(scene, key)),
            aria_label=words("nav.label"),
        ),
        tag(
            "div",
            _choice("lang", words("nav.language"), [(each, NAMES[each]) for each in LANGUAGES], words.language),
            _choice("theme", words("nav.theme"), [(each, words(f"theme.{each}")) for each in THEMES], theme),
            tag("span", _viewer(scene, words), class_="viewer"),
            tag("button", words("nav.leave"), type="button", id="leave", data_do="leave", class_="plain"),
            class_="who",
        ),
    )


def banners(scene: Scene, words: Words) -> Markup:
    """Return what must be known before anything else is read: simulated, stale, held, mode."""
    parts = []
    if scene.observed_at_ms == 0:
        parts.append(_banner("stale", "warning", words("banner.stale"), words("banner.never.text")))
    elif scene.is_stale:
        age = words("banner.stale.text", span=words.span(scene.age_ms))
        parts.append(_banner("stale", "warning", words("banner.stale"), age))
    if scene.simulated:
        parts.append(_banner("simulated", "flask", words("banner.simulated"), words("banner.simulated.text")))
    if scene.trouble:
        parts.append(_banner("trouble", "pause", words("banner.trouble"), scene.trouble))
    if scene.mode != "normal":
        parts.append(_mode(scene, words))
    return join(*parts)


def freshness(scene: Scene, words: Words, view: str) -> Markup:
    """Return the name of the view and the age of the picture in words."""
    heading = tag("h1", words(_label(scene, view)), class_="spoken")
    if scene.observed_at_ms == 0:
        return join(heading, tag("span", words("banner.never.text"), class_="age"))
    age = words("age", span=words.span(scene.age_ms))
    return join(heading, tag("span", icon("clock"), age, class_="age"))


def notice(text: str) -> Markup:
    """Return what just became of an action, for eyes and for screen readers."""
    return tag("p", text, class_="notice") if text else Markup("")


def _may_see(scene: Scene, view: str) -> bool:
    return view != "cluster" or scene.viewer.is_operator


def _link(scene: Scene, words: Words, key: str, view: str) -> Markup:
    return tag("a", words(_label(scene, key)), href=VIEWS[key], aria_current="page" if key == view else None)


def _label(scene: Scene, view: str) -> str:
    return "nav.capacity.all" if view == "capacity" and scene.viewer.is_operator else f"nav.{view}"


def _viewer(scene: Scene, words: Words) -> str:
    return words("viewer.operator" if scene.viewer.is_operator else "viewer.tenant", name=scene.viewer.name)


def _choice(name: str, label: str, options: list[tuple[str, str]], chosen: str) -> Markup:
    drawn = (tag("option", text, value=value, selected=value == chosen) for value, text in options)
    return tag("select", *drawn, id=f"choose-{name}", data_choice=name, aria_label=label)


def _banner(kind: str, drawing: str, word: str, text: str) -> Markup:
    return tag("div", icon(drawing), tag("strong", word), tag("span", text), class_=f"banner b-{kind}")


def _mode(scene: Scene, words: Words) -> Markup:
    name = words(f"mode.{scene.mode}")
    declared = scene.declaration
    text = (
        words(
            "banner.mode.text",
            span=words.span(declared.expires_at_ms - scene.now_ms),
            people=", ".join(declared.approvers),
            reason=declared.reason or "-",
        )
        if declared
        else ""
    )
    return _banner("mode", "shield", words("banner.mode", mode=name.upper()), text)
