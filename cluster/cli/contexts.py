"""Which control plane a command talks to, and as whom: a named context of the configuration, or this machine's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.client import Client
from cluster.settings import Settings, from_environment

LOCAL = "local"


class ContextUnknown(Exception):
    """No context has that name."""

    code = "not_found"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        return f"no context is called {self.name!r}; there are: {', '.join(self.known)}"


class TokenMissing(Exception):
    """The file that should hold the token cannot be read."""

    code = "unreachable"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"no token in {self.path}; start the platform with `partage up`, or name another context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Address and token file of one control plane."""

    name: str
    url: str
    token_file: Path


def connect(name: str | None = None, token_file: Path | None = None) -> Client:
    """Return a client for the named context, else the current one. Raises ``ContextUnknown`` or ``TokenMissing``."""
    settings = from_environment()
    known = contexts(settings)
    chosen = name or current(settings)
    if chosen not in known:
        raise ContextUnknown(chosen, tuple(sorted(known)))
    path = token_file or known[chosen].token_file
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise TokenMissing(path) from error
    return Client(url=known[chosen].url, token=token)


def contexts(settings: Settings) -> dict[str, Context]:
    """Return every context by name; ``local`` is always there."""
    found = {LOCAL: Context(name=LOCAL, url=settings.api_url, token_file=settings.operator_token)}
    for name, entry in _document(settings).get("contexts", {}).items():
        found[name] = Context(name=name, url=entry["url"], token_file=Path(entry["token_file"]).expanduser())
    return found


def current(settings: Settings) -> str:
    """Return the name of the context in use."""
    return str(_document(settings).get("current", LOCAL))


def use(settings: Settings, name: str) -> None:
    """Make the context the one in use. Raises ``ContextUnknown``."""
    known = contexts(settings)
    if name not in known:
        raise ContextUnknown(name, tuple(sorted(known)))
    _write(settings, {**_document(settings), "current": name})


def put(settings: Settings, context: Context) -> None:
    """Store a context; the same name replaces it."""
    document = _document(settings)
    entry = {"url": context.url, "token_file": str(context.token_file)}
    _write(settings, {**document, "contexts": {**document.get("contexts", {}), context.name: entry}})


def _file(settings: Settings) -> Path:
    return settings.config / "config.yaml"


def _document(settings: Settings) -> dict[str, Any]:
    path = _file(settings)
    if not path.exists():
        return {}
    import yaml

    found = yaml.safe_load(path.read_text())
    return found if isinstance(found, dict) else {}


def _write(settings: Settings, document: dict[str, Any]) -> None:
    import yaml

    path = _file(settings)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(yaml.safe_dump(document, sort_keys=True))
    path.chmod(0o600)
