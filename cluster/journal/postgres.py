"""The journal's tables in PostgreSQL, so that two control planes share them. The same statements, in its dialect."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import psycopg

from cluster.journal.store import SCHEMA_VERSION, CrashPoint, Store, no_crash
from cluster.refusals import JournalBusy, JournalCorrupt, JournalFull, SchemaTooNew, StaleGeneration

WRITERS_LOCK = 7_028_512
"""Advisory lock of every write: one writer at a time, as in SQLite."""
MIGRATIONS: dict[int, str] = {0: "schema_postgres.sql", 1: "schema_postgres_2.sql"}
"""From version to the script that leads to the next one."""
KEYS = {
    "memory": ("one", "body"),
    "claim": ("id", "tenant", "generation", "body"),
    "api_key": ("prefix", "domain", "tenant", "body"),
    "device": ("id", "body"),
    "cordon": ("subject", "body"),
    "reservation": ("id", "tenant", "body"),
}
"""Tables whose rows are replaced, and their columns, the key first."""
FULL = (psycopg.errors.InsufficientResources, psycopg.errors.SystemError, psycopg.errors.ReadOnlySqlTransaction)
DAMAGED = (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted)


class PostgresStore(Store):
    """A connection that one thread uses at a time, made again when it was lost."""

    def __init__(self, conninfo: str, *, busy_timeout_ms: int, crash_point: CrashPoint = no_crash) -> None:
        self.path = Path(_place(conninfo))
        self._conninfo = conninfo
        self._busy_timeout_ms = busy_timeout_ms
        self._crash_point = crash_point
        self._lock = threading.RLock()
        self._link: psycopg.Connection[tuple[Any, ...]] | None = None
        with self._named_refusals():
            self._make_tables()

    def close(self) -> None:
        """Close the connection; nothing is lost."""
        with self._lock:
            if self._link is not None:
                self._link.close()

    @contextmanager
    def write(self, place: str, fencing: int | None = None) -> Iterator[sqlite3.Connection]:
        """Run a block as one durable transaction; ``place`` names its crash points.

        Raises ``StaleGeneration`` before anything is written when ``fencing`` is older than the stored one, and
        ``JournalBusy`` when the database cannot be reached or another writer holds it for too long.
        """
        with self._lock, self._named_refusals():
            began = perf_counter()
            self._crash_point(f"{place}:before")
            link = self._connection_now()
            with link.transaction():
                link.execute("SELECT pg_advisory_xact_lock(%s)", (WRITERS_LOCK,))
                dialect = Dialect(link)
                if fencing is not None:
                    self._refuse_older(dialect, fencing)
                yield cast("sqlite3.Connection", dialect)
                self._crash_point(f"{place}:inside")
            self.timed(perf_counter() - began)
            self._crash_point(f"{place}:after")

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Return the rows of a query; a connection that was lost is made again once."""
        with self._lock, self._named_refusals():
            try:
                return Dialect(self._connection_now()).execute(query, values).fetchall()
            except psycopg.OperationalError:
                if self._link is not None and not self._link.broken:
                    raise
                return Dialect(self._connection_now()).execute(query, values).fetchall()

    def backup(self, target: Path) -> None:
        """Refuse: a database of this kind is backed up with its own tools."""
        raise JournalFull(target, "PostgreSQL is backed up with pg_dump")

    def _refuse_older(self, dialect: Dialect, fencing: int) -> None:
        found = dialect.execute("SELECT value FROM fact WHERE name = 'fencing'").fetchone()
        if found is not None and fencing < found[0]:
            raise StaleGeneration(fencing, int(found[0]))

    def _connection_now(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._link is None or self._link.closed or self._link.broken:
            limits = f"-c lock_timeout={self._busy_timeout_ms} -c statement_timeout={self._busy_timeout_ms * 4}"
            wait_s = max(2, self._busy_timeout_ms // 1000)
            self._link = psycopg.connect(
                self._conninfo,
                autocommit=True,
                connect_timeout=wait_s,
                options=limits,
                application_name="partage",
                keepalives_idle=wait_s,
                tcp_user_timeout=self._busy_timeout_ms,
            )
        return self._link

    def _make_tables(self) -> None:
        link = self._connection_now()
        with link.transaction():
            link.execute("SELECT pg_advisory_xact_lock(%s)", (WRITERS_LOCK,))
            row = link.execute("SELECT to_regclass('fact')").fetchone()
            version = 0
            if row is not None and row[0] is not None:
                found = link.execute("SELECT value FROM fact WHERE name = 'schema'").fetchone()
                version = int(found[0]) if found else 1
            if version > SCHEMA_VERSION:
                raise SchemaTooNew(self.path, version, SCHEMA_VERSION)
            while version < SCHEMA_VERSION:
                link.execute(files("cluster.journal").joinpath(MIGRATIONS[version]).read_text())
                version += 1
                self._crash_point(f"migrate:{version}")

    @contextmanager
    def _named_refusals(self) -> Iterator[None]:
        try:
            yield
        except FULL as error:
            raise JournalFull(self.path, str(error).strip()) from error
        except DAMAGED as error:
            raise JournalCorrupt(self.path, str(error).strip()) from error
        except psycopg.OperationalError as error:
            with suppress(psycopg.Error):
                if self._link is not None and self._link.broken:
                    self._link.close()
            raise JournalBusy(self._busy_timeout_ms) from error


class Dialect:
    """Takes the journal's statements as SQLite knows them and runs them in PostgreSQL."""

    def __init__(self, link: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._link = link

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> psycopg.Cursor[tuple[Any, ...]]:
        """Run one statement and return its cursor."""
        return self._link.execute(translated(statement).encode(), values)


def translated(statement: str) -> str:
    """Return the statement in PostgreSQL's dialect. Raises ``KeyError`` for a table whose key is not known."""
    text = statement.replace("?", "%s")
    text = re.sub(r"\bmax\((\w+), %s\)", r"GREATEST(\1, %s)", text)
    if found := re.match(r"INSERT OR REPLACE INTO (\w+) ", text):
        key, *rest = KEYS[found[1]]
        updates = ", ".join(f"{column} = EXCLUDED.{column}" for column in rest)
        text = text.replace("INSERT OR REPLACE", "INSERT", 1) + f" ON CONFLICT ({key}) DO UPDATE SET {updates}"
    return text


def _place(conninfo: str) -> str:
    """Return where the database is, without its password."""
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    return f"postgresql:{parts.get('host', 'local')}/{parts.get('dbname', '')}"
