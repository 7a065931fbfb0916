"""The console as a process of its own beside any control plane."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn

from cluster.clock import SystemClock
from cluster.console.app import create
from cluster.console.http import HttpSource
from cluster.console.sessions import Sessions

BACKLOG = 128


def serve(url: str, *, host: str, port: int, token_file: Path | None, say: Callable[[str], None]) -> None:
    """Serve until stopped. With a token file, the address said carries a ticket that lets one browser in, once."""
    clock = SystemClock()
    sessions = Sessions(clock)
    app = create(HttpSource(url, clock), clock, sessions)
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(BACKLOG)
    address = f"http://{host}:{listening.getsockname()[1]}"
    if token_file is not None:
        address += f"/enter?ticket={sessions.ticket(token_file.read_text(encoding='ascii').strip())}"
    say(address)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False))
    asyncio.run(server.serve(sockets=[listening]))


def main(arguments: list[str] | None = None) -> int:
    """Serve the console that `up` starts; whoever bears a token of the control plane gets links into it."""
    parser = argparse.ArgumentParser(prog="python -m cluster.console.serve")
    parser.add_argument("--url", required=True, help="address of the control plane")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args(arguments)
    serve(chosen.url, host=chosen.host, port=chosen.port, token_file=None, say=print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
