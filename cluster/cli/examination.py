"""What `partage doctor` looks at: settings, files, journal, control plane. Each check stands for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.settings import Settings, from_environment

OWNER_ONLY = 0o077
SPACE_MIB = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


def examine(context: str | None, token_file: Path | None) -> Iterator[Finding]:
    """Yield every finding; a check that cannot be made is a finding too."""
    settings = from_environment()
    checks: dict[str, Callable[[], str]] = {
        "state folder": lambda: _folder(settings),
        "space for journal and weights": lambda: _space(settings),
        "secrets": lambda: _secrets(settings),
        "journal": lambda: _journal(settings),
    }
    for name, check in checks.items():
        yield _found(name, check)
    yield from _control_plane(context, token_file)


class Wrong(Exception):
    """A check found something that needs a hand."""


def _found(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name=name, ok=True, detail=check())
    except Exception as error:  # noqa: BLE001  # whatever is wrong is what the doctor reports
        return Finding(name=name, ok=False, detail=str(error))


def _folder(settings: Settings) -> str:
    if not settings.home.exists():
        raise Wrong(f"{settings.home} does not exist; `partage up` makes it")
    return str(settings.home)


def _space(settings: Settings) -> str:
    import shutil

    free = shutil.disk_usage(settings.home if settings.home.exists() else Path("/")).free // 2**20
    if free < SPACE_MIB:
        raise Wrong(f"{free} MiB free, {SPACE_MIB} are needed; a full disk stops every move")
    return f"{free} MiB free"


def _secrets(settings: Settings) -> str:
    files = [path for path in settings.secrets.rglob("*") if path.is_file()] if settings.secrets.exists() else []
    if not files:
        raise Wrong(f"no secrets in {settings.secrets}; `partage up` makes them")
    open_ones = [path for path in files if path.stat().st_mode & OWNER_ONLY]
    if open_ones:
        raise Wrong(f"others may read {', '.join(map(str, open_ones))}; chmod 600 them and make new ones")
    return f"{len(files)} files, readable by their owner alone"


def _journal(settings: Settings) -> str:
    import sqlite3

    if settings.database_file:
        return f"in PostgreSQL, by {settings.database_file}"
    if not settings.journal.exists():
        raise Wrong(f"{settings.journal} does not exist; the control plane makes it")
    with sqlite3.connect(f"file:{settings.journal}?mode=ro", uri=True) as connection:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    if found != "ok":
        raise Wrong(f"{settings.journal} is damaged ({found}); restore it from a backup")
    return f"{settings.journal}, schema {version}"


def _control_plane(context: str | None, token_file: Path | None) -> Iterator[Finding]:
    from cluster.cli.contexts import connect
    from cluster.client import Problem

    try:
        client = connect(context, token_file)
        ready = client.get("/readyz")
    except Problem as problem:
        ready = problem.body
    except Exception as error:  # noqa: BLE001  # whatever is wrong is what the doctor reports
        yield Finding(name="control plane", ok=False, detail=str(error))
        return
    for check in ready.get("checks", []):
        yield Finding(name=f"control plane: {check['name']}", ok=check["ok"], detail=check["detail"])
    yield _found("audit log", lambda: _audit(client.get("/v1/audit/verify")))
    yield _found("floors", lambda: _floors(client.get("/v1/policy/floors")))
    yield _found("what is not seen", lambda: _gaps(client.get("/v1/snapshot")["gaps"]))


def _audit(verdict: dict[str, object]) -> str:
    if verdict["first_bad"] is not None:
        raise Wrong(f"record {verdict['first_bad']}: {verdict['cause']}; keep the file and call who runs the audit")
    return f"{verdict['records']} records hold"


def _floors(proofs: list[dict[str, object]]) -> str:
    broken = [str(proof["sentence"]) for proof in proofs if not proof["is_recoverable"]]
    if broken:
        raise Wrong(f"{'; '.join(broken)}; add devices, lower the floor or allow it more time")
    return f"{len(proofs)} floors can come back within their deadlines"


def _gaps(gaps: list[dict[str, object]]) -> str:
    if gaps:
        raise Wrong("; ".join(f"{gap['kind']} {gap['subject']}: {gap['cause']}" for gap in gaps))
    return "nothing"
