"""How an API key is known without being stored: what control plane and gateway must compute alike."""

from __future__ import annotations

import hashlib
import hmac

PREFIX_LENGTH = 20
"""Characters of a key that find its record; safe to log. The rest carries at least 128 bits."""


def key_prefix(key: str) -> str:
    """Return the part of the key that names its record."""
    return key[:PREFIX_LENGTH]


def key_mac(pepper: bytes, key: str) -> str:
    """Return HMAC-SHA256 of the key with the domain's pepper, in hex: what ``KeyRecord.mac`` holds."""
    return hmac.new(pepper, key.encode(), hashlib.sha256).hexdigest()
