"""One SQLite file: opened with care, written in transactions that a crash at any instruction cannot tear."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from time import perf_counter

from cluster.refusals import JournalBusy, JournalCorrupt, JournalFull, SchemaTooNew, StaleGeneration

SCHEMA_VERSION = 2
MIGRATIONS: dict[int, str] = {0: "schema.sql", 1: "schema_2.sql"}
"""From version to the script that leads to the next one."""

CrashPoint = Callable[[str], None]
"""Called with the name of the place just reached; tests make it end the process there."""


def no_crash(_place: str) -> None:
    """Let execution go on: the crash point of production."""


def untimed(_seconds: float) -> None:
    """Take no notice of how long a write took."""


class Store:
    """A connection that one thread uses at a time."""

    timed: Callable[[float], None] = staticmethod(untimed)
    """Told how many seconds each write took."""

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_ms: int,
        crash_point: CrashPoint = no_crash,
    ) -> None:
        self.path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._crash_point = crash_point
        self._lock = threading.RLock()
        with self._named_refusals():
            self._connection = self._open()

    def close(self) -> None:
        """Close the file; nothing is lost."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def write(self, place: str, fencing: int | None = None) -> Iterator[sqlite3.Connection]:
        """Run a block as one durable transaction; ``place`` names its crash points.

        Raises ``StaleGeneration`` before anything is written when ``fencing`` is older than the stored one.
        """
        with self._lock, self._named_refusals():
            began = perf_counter()
            self._crash_point(f"{place}:before")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if fencing is not None:
                    self._refuse_stale(fencing)
                yield self._connection
                self._crash_point(f"{place}:inside")
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self.timed(perf_counter() - began)
            self._crash_point(f"{place}:after")

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Return the rows of a query."""
        with self._lock, self._named_refusals():
            return self._connection.execute(query, values).fetchall()

    def texts(self, query: str, *values: object) -> list[str]:
        """Return the first column of a query, as text."""
        return [str(row[0]) for row in self.rows(query, *values)]

    def number(self, query: str, *values: object) -> int:
        """Return the one integer of a query; 0 if there is no row."""
        found = self.rows(query, *values)
        return int(str(found[0][0])) if found and found[0][0] is not None else 0

    def backup(self, target: Path) -> None:
        """Write a consistent copy of the file while it is in use."""
        with self._lock, self._named_refusals(), sqlite3.connect(target) as copy:
            self._connection.backup(copy)

    def _refuse_stale(self, fencing: int) -> None:
        current = self._connection.execute("SELECT value FROM fact WHERE name = 'fencing'").fetchone()[0]
        if fencing < current:
            raise StaleGeneration(fencing, current)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout_ms / 1000, isolation_level=None, check_same_thread=False
        )
        self.path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        self._refuse_damage(connection)
        self._migrate(connection)
        return connection

    def _refuse_damage(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise JournalCorrupt(self.path, str(found))

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            connection.execute("ROLLBACK")
            raise SchemaTooNew(self.path, version, SCHEMA_VERSION)
        while version < SCHEMA_VERSION:
            for statement in statements(MIGRATIONS[version]):
                connection.execute(statement)
            version += 1
            self._crash_point(f"migrate:{version}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

    @contextmanager
    def _named_refusals(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise JournalBusy(self._busy_timeout_ms) from error
            raise JournalFull(self.path, str(error)) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise JournalCorrupt(self.path, str(error)) from error


def statements(script: str) -> Iterator[str]:
    """Yield the statements of a script of this package, one by one, so that they share one transaction."""
    pending = ""
    for line in files("cluster.journal").joinpath(script).read_text().splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
