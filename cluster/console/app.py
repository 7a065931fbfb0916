"""The console as a web application: signing in, pages, the files that browsers need. Nothing comes from elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Form, Header, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from nicegui import ui

from cluster.console.feed import Feed
from cluster.console.icons import icon, sprite
from cluster.console.markup import Markup, join, tag
from cluster.console.page import Page
from cluster.console.port import ConsoleRefused, Source, TokenRefused
from cluster.console.sessions import SESSION_MS, Sessions
from cluster.console.views.frame import THEMES, VIEWS
from cluster.console.words import Words, choose
from cluster.ports import Clock

ASSETS = Path(__file__).with_name("assets")
COOKIE, LANGUAGE, THEME = "partage_session", "partage_language", "partage_theme"
TOKEN_MAX = 512
"""Longest token that is tried."""
RECONNECT_S = 30.0


def create(source: Source, clock: Clock, sessions: Sessions) -> FastAPI:
    """Return the console. One per process: the page library keeps one application."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/assets", StaticFiles(directory=ASSETS), name="assets")
    _signing_in(app, source, sessions)
    _inviting(app, source, sessions)
    feed = Feed(source, clock)
    for view, path in VIEWS.items():
        _page(source, feed, sessions, view=view, path=path.removeprefix("."))
    ui.run_with(app, title="partage", tailwind=False, reconnect_timeout=RECONNECT_S, show_welcome_message=False)
    return app


def _page(source: Source, feed: Feed, sessions: Sessions, *, view: str, path: str) -> None:
    @ui.page(path, title="partage")
    async def draw(request: Request) -> Response | None:
        session = sessions.find(request.cookies.get(COOKIE))
        if session is None:
            return RedirectResponse("login")
        words, theme = _taste(request)
        ui.add_head_html(head(words, theme))
        ui.add_body_html(join(sprite(), cut(words), dialog(words)))
        try:
            await Page(source, feed, session, words, view=view, theme=theme).build()
        except ConsoleRefused:
            sessions.close(request.cookies.get(COOKIE))
            return RedirectResponse("login")
        return None


def _signing_in(app: FastAPI, source: Source, sessions: Sessions) -> None:
    @app.get("/login", response_class=HTMLResponse)
    def login(request: Request) -> str:
        words, theme = _taste(request)
        return _login(words, theme, "")

    @app.post("/login", response_model=None)
    async def enter(request: Request, token: Annotated[str, Form(max_length=TOKEN_MAX)]) -> Response:
        words, theme = _taste(request)
        try:
            viewer = await source.viewer(token.strip())
        except ConsoleRefused:
            return HTMLResponse(_login(words, theme, words("login.refused")), status_code=401)
        return _entered(sessions.open(token.strip(), viewer))

    @app.get("/enter", response_model=None)
    async def redeem(ticket: str) -> Response:
        token = sessions.redeem(ticket)
        if token is None:
            return RedirectResponse("login", status_code=303)
        return _entered(sessions.open(token, await source.viewer(token)))

    @app.post("/leave", response_model=None)
    def leave(request: Request) -> Response:
        sessions.close(request.cookies.get(COOKIE))
        gone = RedirectResponse("login", status_code=303)
        gone.delete_cookie(COOKIE)
        return gone

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "alive"}


def _inviting(app: FastAPI, source: Source, sessions: Sessions) -> None:
    @app.post("/tickets", status_code=201)
    async def invite(authorization: Annotated[str, Header(max_length=TOKEN_MAX)] = "") -> dict[str, str]:
        token = authorization.removeprefix("Bearer ").strip()
        try:
            await source.viewer(token)
        except TokenRefused as refusal:
            raise HTTPException(401, str(refusal)) from refusal
        except ConsoleRefused as refusal:
            raise HTTPException(503, str(refusal)) from refusal
        return {"path": f"/enter?ticket={sessions.ticket(token)}"}


def _entered(session: str) -> Response:
    response = RedirectResponse("./", status_code=303)
    response.set_cookie(COOKIE, session, max_age=SESSION_MS // 1000, httponly=True, samesite="strict")
    return response


def _taste(request: Request) -> tuple[Words, str]:
    asked = request.query_params.get("lang") or request.cookies.get(LANGUAGE)
    theme = request.query_params.get("theme") or request.cookies.get(THEME) or THEMES[0]
    words = choose(asked, request.headers.get("accept-language", ""))
    return words, theme if theme in THEMES else THEMES[0]


def head(words: Words, theme: str) -> Markup:
    """Return what belongs into the head: language and appearance before the first paint, style, script."""
    start = f'document.documentElement.lang="{words.language}";document.documentElement.dataset.theme="{theme}"'
    return join(
        Markup(f"<script>{start}</script>"),
        tag("link", rel="stylesheet", href=f"assets/console.css?{stamp('console.css')}"),
        tag("script", src=f"assets/console.js?{stamp('console.js')}", defer=True),
    )


def cut(words: Words) -> Markup:
    """Return the banner that the browser shows by itself when the console no longer answers."""
    content = (icon("warning"), tag("strong", words("banner.cut")), tag("span", words("banner.cut.text")))
    return tag("div", *content, class_="banner b-stale", id="cut", hidden=True, role="alert")


def dialog(words: Words) -> Markup:
    """Return the one dialog that asks before something is changed."""
    buttons = tag(
        "p",
        tag("button", words("dialog.cancel"), type="button", id="dialog-cancel", class_="plain"),
        tag("button", words("dialog.go"), type="submit", id="dialog-go"),
        class_="actions",
    )
    fields = tag("div", id="dialog-fields")
    form = tag("form", tag("h2", "", id="dialog-title"), fields, buttons, method="dialog", class_="stacked")
    return tag("dialog", form, id="dialog", aria_labelledby="dialog-title")


def _login(words: Words, theme: str, refused: str) -> str:
    form = tag(
        "form",
        tag("h1", "partage"),
        tag("p", refused, class_="notice", role="alert") if refused else None,
        tag("label", words("login.token"), tag("input", type="password", name="token", required=True, autofocus=True)),
        tag("p", words("login.hint"), class_="empty"),
        tag("button", words("login.enter"), type="submit"),
        method="post",
        action="login",
        class_="stacked login",
    )
    viewport = tag("meta", name="viewport", content="width=device-width, initial-scale=1")
    start = tag("head", tag("meta", charset="utf-8"), viewport, tag("title", words("login.title")), head(words, theme))
    return "<!doctype html>" + tag("html", start, tag("body", sprite(), tag("main", form)), lang=words.language)


def stamp(asset: str) -> str:
    """Return a name for the asset's content, so that browsers fetch it again when it changes and only then."""
    return hashlib.sha256((ASSETS / asset).read_bytes()).hexdigest()[:12]
