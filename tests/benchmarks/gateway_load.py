"""A client that costs little: N kept connections, each sends its next request when the last byte has come.

``python -m tests.benchmarks.gateway_load '{"port":..,"connections":..,...}'`` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field

import uvloop

WARM_UP_SHARE = 0.15
_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Load:
    port: int
    connections: int
    duration_s: float
    key: str
    model: str
    path: str = "/v1/chat/completions"
    stream: bool = False
    max_tokens: int = 16

    def request(self) -> bytes:
        asked = {
            "model": self.model,
            "messages": [{"role": "user", "content": "hello there, how are you today?"}],
            "max_tokens": self.max_tokens,
        } | ({"stream": True} if self.stream else {})
        body = json.dumps(asked).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(kw_only=True)
class Seen:
    """What came back, all times in microseconds."""

    whole_us: list[int] = field(default_factory=list)
    first_us: list[int] = field(default_factory=list)
    not_ok: int = 0
    bytes_in: int = 0


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, seen: Seen, counts_from: float, ends_at: float) -> None:
        self._request, self._seen = request, seen
        self._counts_from, self._ends_at = counts_from, ends_at
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._seen.not_ok += 1
            self.done.set_result(None)

    def _send(self) -> None:
        self._buffer = bytearray()
        self._expected: int | None = None
        self._first = 0.0
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self._first:
            self._first = now
        self._buffer += data
        if self._is_complete():
            self._note(now)
            if now < self._ends_at:
                self._send()
            else:
                self.done.set_result(None)
                self._transport.close()

    def _is_complete(self) -> bool:
        if self._expected is None:
            end = self._buffer.find(_HEAD_END)
            if end < 0:
                return False
            head = bytes(self._buffer[:end]).lower()
            at = head.find(b"content-length:")
            self._expected = 0 if at < 0 else end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        if self._expected:
            return len(self._buffer) >= self._expected
        return self._buffer.endswith(_LAST_CHUNK)

    def _note(self, now: float) -> None:
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            self._seen.not_ok += 1
        if now >= self._counts_from:
            self._seen.whole_us.append(int((now - self._began) * 1e6))
            self._seen.first_us.append(int((self._first - self._began) * 1e6))
            self._seen.bytes_in += len(self._buffer)


def percentile(values: list[int], share: float) -> int:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


async def run(load: Load) -> dict[str, object]:
    loop, seen, now = asyncio.get_running_loop(), Seen(), time.perf_counter()
    counts_from, ends_at = now + load.duration_s * WARM_UP_SHARE, now + load.duration_s
    ends = [
        (
            await loop.create_connection(
                lambda: _Connection(load.request(), seen, counts_from, ends_at), "127.0.0.1", load.port
            )
        )[1]
        for _ in range(load.connections)
    ]
    await asyncio.wait_for(asyncio.gather(*(end.done for end in ends)), load.duration_s * 4 + 30)
    took_s = time.perf_counter() - counts_from
    return {
        "requests_per_s": round(len(seen.whole_us) / took_s, 1),
        "not_ok": seen.not_ok,
        "tokens_per_s": round(len(seen.whole_us) * load.max_tokens / took_s),
        **{f"p{int(q * 100)}_us": percentile(seen.whole_us, q) for q in (0.5, 0.95, 0.99)},
        **{f"first_p{int(q * 100)}_us": percentile(seen.first_us, q) for q in (0.5, 0.99)},
        **{key: value for key, value in asdict(load).items() if key in ("connections", "stream")},
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(Load(**json.loads(sys.argv[1]))))))  # its result
