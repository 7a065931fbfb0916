"""Enough of Kubernetes' protobuf to read the Secrets in which helm keeps its releases."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

MAGIC = b"k8s\x00"


def decoded(body: bytes) -> dict[str, Any]:
    """Return the Secret in the body; an empty object for options, which are not read."""
    envelope = dict(_fields(body[len(MAGIC) :]))
    types = dict(_fields(envelope[1]))
    kind = types.get(2, b"").decode()
    if kind != "Secret":
        return {}
    secret: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {}}
    for number, value in _fields(envelope[2]):
        if number == 1:
            secret["metadata"] = _metadata(value)
        elif number == 2:
            key, content = _pair(value)
            secret["data"][key] = base64.b64encode(content).decode()
        elif number == 3:
            secret["type"] = value.decode()
    return secret


def _metadata(message: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = {1: "name", 3: "namespace", 5: "uid", 6: "resourceVersion"}
    maps = {11: "labels", 12: "annotations"}
    for number, value in _fields(message):
        if number in names and value:
            found[names[number]] = value.decode()
        elif number in maps:
            key, content = _pair(value)
            found.setdefault(maps[number], {})[key] = content.decode()
    return found


def _pair(message: bytes) -> tuple[str, bytes]:
    parts = dict(_fields(message))
    return parts.get(1, b"").decode(), parts.get(2, b"")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 2:
            size, at = _varint(message, at)
            yield tag >> 3, message[at : at + size]
            at += size
        elif tag & 7 == 0:
            _, at = _varint(message, at)
        else:
            at += 8 if tag & 7 == 1 else 4


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
