"""Both ends prove that they know the secret without sending it: a port may belong to somebody else by now."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from enum import IntEnum

from serving.channel.frames import Frames

NONCE_BYTES = 32


class HelloKind(IntEnum):
    """Kinds of the frames before the first call; apart from those of pieces."""

    CHALLENGE = 64
    PROOF = 65


class NotTheOther(ConnectionError):
    """The other end does not know the secret."""


async def greet(frames: Frames, secret: bytes) -> None:
    """Prove ourselves to the engine that listens and have it prove itself. Raises ``NotTheOther``."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    frames.send(HelloKind.CHALLENGE, nonce)
    answer = await frames.read()
    if answer is None or answer.kind != HelloKind.PROOF or len(answer.payload) != NONCE_BYTES + NONCE_BYTES:
        raise NotTheOther
    proof, theirs = answer.payload[:NONCE_BYTES], answer.payload[NONCE_BYTES:]
    if not hmac.compare_digest(proof, _proof(secret, b"engine", nonce, theirs)):
        raise NotTheOther
    frames.send(HelloKind.PROOF, _proof(secret, b"gateway", theirs, nonce))


async def receive(frames: Frames, secret: bytes) -> None:
    """Prove ourselves to whoever connected and have it prove itself. Raises ``NotTheOther``."""
    challenge = await frames.read()
    if challenge is None or challenge.kind != HelloKind.CHALLENGE or len(challenge.payload) != NONCE_BYTES:
        raise NotTheOther
    nonce = secrets.token_bytes(NONCE_BYTES)
    frames.send(HelloKind.PROOF, _proof(secret, b"engine", challenge.payload, nonce) + nonce)
    answer = await frames.read()
    expected = _proof(secret, b"gateway", nonce, challenge.payload)
    if answer is None or answer.kind != HelloKind.PROOF or not hmac.compare_digest(answer.payload, expected):
        raise NotTheOther


def _proof(secret: bytes, role: bytes, first: bytes, second: bytes) -> bytes:
    return hmac.new(secret, role + first + second, hashlib.sha256).digest()
