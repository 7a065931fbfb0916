"""Ports of the loopback interface."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Collection

LOOPBACK = "127.0.0.1"
FIRST_PORT = 21_000
LAST_PORT = 31_999
"""Below the range that the kernel gives to outgoing connections, so that none of those takes a chosen port."""


class PortsExhausted(Exception):
    """There are not enough free ports for another process."""

    code = "ports_exhausted"

    def __init__(self, wanted: int) -> None:
        super().__init__(wanted)
        self.wanted = wanted

    def __str__(self) -> str:
        return f"no {self.wanted} free ports between {FIRST_PORT} and {LAST_PORT}; stop what uses them and try again"


def free_ports(count: int, taken: Collection[int], key: str) -> tuple[int, ...]:
    """Return so many ports that nothing listens on and that are not taken. Raises ``PortsExhausted``.

    The search begins at a place of the key's own, so that two platforms on one machine seldom meet.
    """
    found: list[int] = []
    size = LAST_PORT - FIRST_PORT + 1
    begin = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % size
    for step in range(size):
        port = FIRST_PORT + (begin + step) % size
        if len(found) == count:
            break
        if port not in taken and is_free(port):
            found.append(port)
    if len(found) < count:
        raise PortsExhausted(count)
    return tuple(found)


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
