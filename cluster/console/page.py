"""One open page: fragments on a frame, drawn again twice a second, and whenever its reader does something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui
from nicegui.element import Element

from cluster.console import devices
from cluster.console.actions import Asked, perform
from cluster.console.feed import Feed
from cluster.console.fragment import Fragment
from cluster.console.loads import Loads
from cluster.console.markup import Markup, tag
from cluster.console.port import Source, TokenRefused
from cluster.console.scene import Scene
from cluster.console.selection import Selection
from cluster.console.sessions import Session
from cluster.console.views import asking, capacity, cluster, frame, models
from cluster.console.words import Words

DRAW_EVERY_S = 0.5

Drawing = dict[str, Markup]


class Page:
    """What one browser tab shows."""

    def __init__(self, source: Source, feed: Feed, session: Session, words: Words, *, view: str, theme: str) -> None:
        self._source, self._feed, self._session, self._words = source, feed, session, words
        self._view, self._theme = view, theme
        self._selection = Selection()
        self._fragments: dict[str, Fragment] = {}
        self._map: Element | None = None
        self._loads: Loads | None = None
        self._nodes: tuple[str, ...] = ()

    async def build(self) -> None:
        """Lay the page out, draw it once, and keep it current while its browser is connected."""
        scene = await self._feed.scene(self._session.token, self._session.viewer)
        ui.add_body_html(shell(self._summary(scene)))
        # The library puts a page's content into a main element of its own; bar and banners belong before it.
        with ui.context.client.layout:
            self._add("bar", "header")
            self._add("banners", role="status")
        for place, name in enumerate(("bar", "banners")):
            self._fragments[name].move(target_index=place)
        with ui.element("div").props('id="main" tabindex="-1"').classes(f"view view-{self._view}"):
            self._add("freshness")
            self._add("notice", role="status")
            LAYOUT[self._view](self)
        self._draw_once(scene)
        self._draw(scene)
        ui.on("console", self._asked)
        ui.timer(DRAW_EVERY_S, self._again)

    def _summary(self, scene: Scene) -> Drawing:
        """Draw the part of the page that a person looks at first."""
        words, view = self._words, self._view
        first = DRAW_FIRST[view]
        return {
            "bar": frame.bar(scene, words, view, self._theme),
            "banners": frame.banners(scene, words),
            "freshness": frame.freshness(scene, words, view),
            "first": first(scene, words),
        }

    def add_map(self) -> None:
        """Add the place of the nodes, which come and go with the scene, and what writes their loads."""
        self._loads = Loads(self._words)
        self._map = ui.element("div").classes("map")

    def add(self, name: str, element: str = "section") -> None:
        """Add an empty fragment."""
        self._add(name, element)

    def _add(self, name: str, element: str = "div", **attributes: str) -> None:
        self._fragments[name] = Fragment(element, name=name, **attributes)

    async def _again(self) -> None:
        await self._guarded(self._redraw)

    async def _asked(self, event: Any) -> None:
        fields = event.args if isinstance(event.args, dict) else {}

        async def act() -> None:
            scene = await self._feed.scene(self._session.token, self._session.viewer)
            asked = Asked(
                source=self._source,
                token=self._session.token,
                scene=scene,
                selection=self._selection,
                words=self._words,
                fields=fields,
            )
            self._selection = await perform(asked)
            if fields.get("do") not in LOOKING:
                self._feed.expire(self._session.token)
            await self._redraw()

        await self._guarded(act)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except TokenRefused:
            ui.navigate.to("login")

    async def _redraw(self) -> None:
        self._draw(await self._feed.scene(self._session.token, self._session.viewer))

    def _draw_once(self, scene: Scene) -> None:
        """Draw what people type into: it is never drawn again."""
        if self._view == "capacity":
            self._fragments["filters"].show(capacity.filters(self._words))
            self._fragments["ask"].show(asking.form(scene, self._words))

    def _draw(self, scene: Scene) -> None:
        words = self._words
        drawn = {
            "bar": frame.bar(scene, words, self._view, self._theme),
            "banners": frame.banners(scene, words),
            "freshness": frame.freshness(scene, words, self._view),
            "notice": frame.notice(self._selection.notice),
            **DRAW[self._view](scene, words, self._selection),
        }
        if self._map is not None:
            drawn.update(self._draw_map(scene))
        for name, markup in drawn.items():
            self._fragments[name].show(markup)
        if self._loads is not None:
            self._loads.show(devices.spots(scene))

    def _draw_map(self, scene: Scene) -> Drawing:
        found = devices.spots(scene)
        names = tuple(found)
        if names != self._nodes and self._map is not None:
            self._map.clear()
            with self._map:
                for name in names:
                    self._add(f"node-{name}", "article")
            self._nodes = names
        chosen = self._selection.device
        spots = {spot.device.id: spot for each in found.values() for spot in each}
        drawn = {f"node-{name}": cluster.node(name, each, scene, self._words, chosen) for name, each in found.items()}
        spot = next((spots[key] for key in spots if key == chosen), None)
        return {**drawn, "detail": cluster.detail(spot, scene, self._words)}


DRAW_FIRST: dict[str, Callable[[Scene, Words], Markup]] = {
    "capacity": capacity.shares,
    "models": models.models,
    "cluster": cluster.summary,
}


def shell(drawn: Drawing) -> Markup:
    """Return what the browser paints before any script has run; the script takes it away once the page is there."""
    view = tag("div", drawn["freshness"], tag("section", drawn["first"]), class_="view")
    return tag("div", tag("header", drawn["bar"]), drawn["banners"], view, id="shell", inert=True)


LOOKING = frozenset({"filter", "page", "select", "offer"})
"""Actions that change nothing of the platform."""


def _lay_capacity(page: Page) -> None:
    page.add("shares")
    with ui.element("div").classes("columns"):
        with ui.element("div"):
            with ui.element("section"):
                page.add("filters", "div")
                page.add("claims", "div")
            page.add("usage")
        with ui.element("div").classes("side"):
            with ui.element("section"):
                page.add("ask", "div")
                page.add("offer", "div")
            page.add("keys")


def _lay_models(page: Page) -> None:
    page.add("models")


def _lay_cluster(page: Page) -> None:
    with ui.element("div").classes("columns"):
        with ui.element("div"):
            with ui.element("section"):
                page.add("summary", "div")
                page.add("legend", "div")
                page.add_map()
            page.add("timeline")
        with ui.element("div").classes("side"):
            page.add("detail")
            page.add("health")
            page.add("approvals")


LAYOUT: dict[str, Callable[[Page], None]] = {
    "capacity": _lay_capacity,
    "models": _lay_models,
    "cluster": _lay_cluster,
}


def _draw_capacity(scene: Scene, words: Words, selection: Selection) -> Drawing:
    return {
        "shares": capacity.shares(scene, words),
        "claims": capacity.claims(scene, words, selection),
        "offer": asking.offer(words, selection),
        "keys": capacity.keys(scene, words, selection),
        "usage": capacity.usage(scene, words),
    }


def _draw_models(scene: Scene, words: Words, _selection: Selection) -> Drawing:
    return {"models": models.models(scene, words)}


def _draw_cluster(scene: Scene, words: Words, _selection: Selection) -> Drawing:
    return {
        "summary": cluster.summary(scene, words),
        "legend": cluster.legend(words),
        "health": cluster.health(scene, words),
        "approvals": cluster.approvals(scene, words),
        "timeline": cluster.timeline(scene, words),
    }


DRAW: dict[str, Callable[[Scene, Words, Selection], Drawing]] = {
    "capacity": _draw_capacity,
    "models": _draw_models,
    "cluster": _draw_cluster,
}
