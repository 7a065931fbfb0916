"""Documentation of the API as plain pages: made from the API itself, without scripts, without a network."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from cluster.api.problems import STATUS_OF, TITLES

routes = APIRouter(include_in_schema=False)

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, h3 { font-family: ui-monospace, monospace } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; vertical-align: top }
section { margin: 1.5rem 0 } .verb { display: inline-block; min-width: 4.5rem }
"""
ORDER = ("get", "put", "post", "patch", "delete")


@routes.get("/docs")
def operations(request: Request) -> HTMLResponse:
    """Return every operation with its parameters."""
    schema = request.app.openapi()
    parts = [
        _operation(path, verb, methods[verb]) for path, methods in schema["paths"].items() for verb in _verbs(methods)
    ]
    lead = (
        "<p>Machine-readable: <a href='/openapi.json'>/openapi.json</a>. "
        "Refusals: <a href='/docs/problems'>problems and their codes</a>.</p>"
    )
    return _page("The control API", lead + "".join(parts))


@routes.get("/docs/problems")
def problems() -> HTMLResponse:
    """Return every code that the API answers with; the ``type`` of a problem leads here."""
    rows = "".join(
        f"<tr id='{code}'><td><code>{code}</code></td><td>{status}</td><td>{escape(TITLES.get(code, ''))}</td></tr>"
        for code, status in STATUS_OF.items()
    )
    head = "<tr><th scope='col'>code</th><th scope='col'>status</th><th scope='col'>meaning</th></tr>"
    return _page("Problems", f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>")


def _operation(path: str, verb: str, found: dict[str, Any]) -> str:
    said = escape(found.get("description") or found.get("summary", ""))
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{one['in']}</td>"
        f"<td>{escape(one.get('description', ''))}</td></tr>"
        for one in found.get("parameters", [])
        if one["name"].lower() != "authorization"
    )
    head = "<tr><th scope='col'>parameter</th><th scope='col'>in</th><th scope='col'>meaning</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>" if rows else ""
    return f"<section><h3><span class='verb'>{verb.upper()}</span> {escape(path)}</h3><p>{said}</p>{table}</section>"


def _verbs(methods: dict[str, Any]) -> list[str]:
    return [verb for verb in ORDER if verb in methods]


def _page(title: str, body: str) -> HTMLResponse:
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{title}</title>"
    return HTMLResponse(
        f"<!doctype html><html lang='en'><head>{head}<style>{STYLE}</style></head>"
        f"<body><main><h1>{title}</h1>{body}</main></body></html>",
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )
