"""Use of capacity that fades: after one half-life, half of it is forgotten. Exact at any sampling interval."""

from __future__ import annotations

from math import isqrt

from policies.model.memory import UsageRecord

SCALE = 1 << 64
"""Fixed-point one. Errors of the powers stay far below one part in a billion over ten half-lives."""
_FORGOTTEN_AFTER = 64
"""Half-lives after which nothing is left of a use."""
_BITS = 48
"""Binary places to which a part of a half-life is resolved: far below a millisecond."""


def _square_roots() -> tuple[int, ...]:
    """Return 2^-(1/2), 2^-(1/4), ... as fixed-point numbers, found by integer square roots."""
    roots, value = [], SCALE // 2
    for _ in range(_BITS):
        value = isqrt(value * SCALE)
        roots.append(value)
    return tuple(roots)


_ROOTS = _square_roots()


def kept_of(elapsed_ms: int, half_life_s: int) -> int:
    """Return the part that is remembered after this time, in units of ``1/SCALE``. No time keeps all of it."""
    if half_life_s <= 0:
        return 0 if elapsed_ms else SCALE
    whole, rest = divmod(max(0, elapsed_ms), half_life_s * 1000)
    if whole >= _FORGOTTEN_AFTER:
        return 0
    kept, bits = SCALE, (rest << _BITS) // (half_life_s * 1000)
    for position, root in enumerate(_ROOTS):
        if bits >> (_BITS - 1 - position) & 1:
            kept = kept * root // SCALE
    return kept >> whole


def advanced(record: UsageRecord, now_ms: int, half_life_s: int) -> UsageRecord:
    """Return the record at ``now_ms``: the old use faded, the use since then added at the rate held.

    Use at a constant rate r for a time t adds ``r * half_life / ln 2 * (1 - 2^(-t/half_life))`` milli-seconds, so that
    one long step and many short ones agree. A clock that went back changes nothing.
    """
    elapsed = now_ms - record.at_ms
    if elapsed <= 0:
        return record
    kept = kept_of(elapsed, half_life_s)
    steady = record.rate_millis * half_life_s * SCALE // LN2
    return UsageRecord(
        tenant=record.tenant, flavor=record.flavor, at_ms=now_ms, rate_millis=record.rate_millis,
        milli_seconds=(record.milli_seconds * kept + steady * (SCALE - kept)) // SCALE,
    )  # fmt: skip


LN2 = 12_786_308_645_202_655_659
"""Natural logarithm of two, in units of ``1/SCALE``."""
