"""Which pod the kubelet gave each device to: its pod-resources socket, read without generated code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc

METHOD = "/v1.PodResourcesLister/List"
TIMEOUT_S = 5
MAX_ANSWER = 16 * 1024 * 1024
OURS = ("nvidia.com/",)
LENGTH_DELIMITED = 2


class KubeletSilent(Exception):
    """The kubelet did not say which pod holds what."""

    code = "kubelet_silent"

    def __init__(self, socket: Path, cause: str) -> None:
        super().__init__(socket, cause)
        self.socket, self.cause = socket, cause

    def __str__(self) -> str:
        return f"the kubelet at {self.socket} did not say which pod holds which device: {self.cause}"


def holders(socket: Path) -> dict[str, str]:
    """Return the pod (``namespace/name``) of each GPU or MIG instance given out, by UUID. Raises ``KubeletSilent``."""
    try:
        with grpc.insecure_channel(
            f"unix://{socket}", options=[("grpc.max_receive_message_length", MAX_ANSWER)]
        ) as way:
            call = way.unary_unary(METHOD, request_serializer=bytes, response_deserializer=bytes)
            answer: bytes = call(b"", timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        raise KubeletSilent(socket, str(error)[:200]) from error
    try:
        return dict(devices_in(answer))
    except (IndexError, KeyError, ValueError) as error:
        raise KubeletSilent(socket, f"the answer is not understood: {error}") from error


def devices_in(answer: bytes) -> Iterator[tuple[str, str]]:
    """Yield device and pod out of a ListPodResourcesResponse. Other bytes raise Index-, Key- or ``ValueError``."""
    for _, pod in _fields(answer, {1}):
        parts = dict(_fields(pod, {1, 2}))
        name = f"{parts[2].decode()}/{parts[1].decode()}"
        for _, container in _fields(pod, {3}):
            for _, devices in _fields(container, {2}):
                resource = dict(_fields(devices, {1})).get(1, b"").decode()
                if resource.startswith(OURS):
                    # A shared device is listed as its UUID with the number of the share behind it.
                    yield from ((each.decode().split("::")[0], name) for _, each in _fields(devices, {2}))


def _fields(message: bytes, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the length-delimited fields of these numbers, in order."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind != LENGTH_DELIMITED:
            at = _skip(message, at, kind)
            continue
        size, at = _varint(message, at)
        if at + size > len(message):
            raise ValueError(f"field {number} is cut off")
        if number in wanted:
            yield number, message[at : at + size]
        at += size


def _skip(message: bytes, at: int, kind: int) -> int:
    if kind == 0:
        return _varint(message, at)[1]
    if kind in {1, 5}:
        return at + (8 if kind == 1 else 4)
    raise ValueError(f"wire type {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
