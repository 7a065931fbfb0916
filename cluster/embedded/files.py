"""Files that are whole or absent, and secrets that only their owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

TOKEN_BYTES = 32


def write_whole(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Let the file hold exactly this text; a crash leaves the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_or_none(path: Path) -> str | None:
    """Return the file's text, or None if there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def ensure_token(path: Path) -> str:
    """Return the secret in the file, made (64 hex digits, mode 0600) if it was not there."""
    known = read_or_none(path)
    if known:
        return known.strip()
    write_whole(path, secrets.token_hex(TOKEN_BYTES))
    return path.read_text(encoding="utf-8").strip()
