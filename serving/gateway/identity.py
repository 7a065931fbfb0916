"""Who calls: the tenant follows from the API key alone, never from anything else in the request."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from policies.model.keys import key_mac
from policies.model.routing import KeyRecord
from serving.gateway.errors import WrongKey

_BEARER = "bearer"
_NO_MAC = "0" * 64
"""Compared with when the prefix is unknown, so that both ways take the same time."""


class Keyring:
    """The keys of one domain. Another domain's keys have another pepper and are not among them."""

    def __init__(self, pepper: bytes, records: Iterable[KeyRecord]) -> None:
        self._pepper = pepper
        self._by_prefix = {record.prefix: record for record in records}
        self._lengths = sorted({len(prefix) for prefix in self._by_prefix}, reverse=True)

    def identify(self, authorization: str, now_ms: int) -> KeyRecord:
        """Return the record of the key in the header. Raises ``WrongKey``; costs one HMAC in every case."""
        scheme, _, given = authorization.partition(" ")
        key = given.strip() if scheme.lower() == _BEARER else ""
        record = self._candidate(key)
        is_right = hmac.compare_digest(key_mac(self._pepper, key), record.mac if record else _NO_MAC)
        if record is None or not is_right or _is_expired(record, now_ms):
            raise WrongKey
        return record

    def in_force(self, prefix: str, now_ms: int) -> KeyRecord | None:
        """Return the record of this prefix, if it has not expired."""
        record = self._by_prefix.get(prefix)
        return None if record is None or _is_expired(record, now_ms) else record

    def _candidate(self, key: str) -> KeyRecord | None:
        for length in self._lengths:
            if len(key) > length and key[:length] in self._by_prefix:
                return self._by_prefix[key[:length]]
        return None


def _is_expired(record: KeyRecord, now_ms: int) -> bool:
    return record.expires_at_ms is not None and now_ms >= record.expires_at_ms
