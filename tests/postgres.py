"""A PostgreSQL of the test's own: Debian's binaries, a folder of its own, a free loopback port, no privileges."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

PLACES = ("/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/15/bin")


def binaries() -> Path | None:
    found = shutil.which("initdb")
    candidates = [Path(place) for place in PLACES] + ([Path(found).resolve().parent] if found else [])
    return next((path for path in candidates if (path / "postgres").exists()), None)


def require() -> Path:
    """Return the folder of the binaries, or skip."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL is not installed: Debian's package `postgresql`")
    return found


class Postgres:
    """Runs until closed; as ``nobody`` where the tests run as root, which PostgreSQL refuses to."""

    def __init__(self, folder: Path) -> None:
        self._bin = require()
        self._data = folder / "data"
        self._as = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        if self._as:
            shutil.chown(folder, "nobody", "nogroup")
            _let_through(folder)
        self._run("initdb", "-D", str(self._data), "-U", "partage", "--auth=trust", "--no-sync", "--locale=C.UTF-8")
        self.start()

    def conninfo(self, database: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} user=partage dbname={database}"

    def start(self) -> None:
        options = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=50")
        self._server = subprocess.Popen(
            [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port)]
            + [word for option in options for word in ("-c", option)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as,
        )
        for _ in range(300):
            try:
                psycopg.connect(self.conninfo(), connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.05)  # noqa: TID251 - a real server is waited for
            else:
                return
        raise TimeoutError("PostgreSQL did not start")

    def stop(self) -> None:
        """End it at once, as a crash would."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(20)

    def dump(self, conninfo: str) -> str:
        """Return the database as `pg_dump` writes it."""
        program = [str(self._bin / "pg_dump"), "--no-owner", conninfo]
        return subprocess.run(program, capture_output=True, text=True, check=True, timeout=60).stdout

    def restored(self, dump: str) -> str:
        """Put a dump into a new database with `psql`; return how to connect to it."""
        with psycopg.connect(self.conninfo(), autocommit=True) as link:
            link.execute("CREATE DATABASE restored")
        program = [str(self._bin / "psql"), "--quiet", "--set", "ON_ERROR_STOP=1", self.conninfo("restored")]
        subprocess.run(program, input=dump, capture_output=True, text=True, check=True, timeout=60)
        return self.conninfo("restored")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
            **self._as,
        )
        assert done.returncode == 0, f"{program} {arguments} ended with {done.returncode}"


def _let_through(folder: Path) -> None:
    """Let the unprivileged user reach the folder; pytest makes its folders private."""
    pwd.getpwnam("nobody")
    for parent in folder.parents:
        if str(parent) in {"/", "/tmp"}:
            return
        parent.chmod(parent.stat().st_mode | 0o011)
