"""What Prometheus scrapes from a gateway. Labels hold names of tenants and models, never anything a client wrote."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.ledger import UsageRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST_S = (0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1, 2, 5, 10, 30, 60)
_TOKEN_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.08, 0.1, 0.15, 0.2, 0.5, 1)
_MS = 1_000
_SHED = {
    "queue_full": "queue_full",
    "deadline": "deadline",
    "rate_limit_exceeded": "rate",
    "insufficient_quota": "budget",
}


class Metrics:
    """The numbers of one gateway."""

    def __init__(self, domain: str) -> None:
        self._domain = domain
        self._registry = CollectorRegistry()
        by_model = ("domain", "tenant", "model")
        self._requests = self._counter("requests", "Requests answered or refused.", (*by_model, "code"))
        self._tokens = self._counter("tokens", "Tokens read and written.", (*by_model, "variant", "direction"))
        self._gpu = self._counter("gpu_ms", "Milliseconds of a whole device.", (*by_model, "variant"))
        self._shed = self._counter("shed", "Requests refused for lack of room.", ("domain", "class", "reason"))
        self._queued = Gauge(
            "partage_gateway_queued", "Requests that wait.", ("domain", "class"), registry=self._registry
        )
        self._in_flight = Gauge(
            "partage_gateway_in_flight", "Requests inside groups.", ("domain", "claim"), registry=self._registry
        )
        self._first = self._histogram("ttft_seconds", "Arrival to the first piece of a stream.", by_model, _FIRST_S)
        self._token = self._histogram("tpot_seconds", "Time per token after the first.", by_model, _TOKEN_S)

    def observe(self, record: UsageRecord, *, is_stream: bool, class_name: str) -> None:
        """Count one finished request."""
        who = (self._domain, record.tenant, record.model)
        self._requests.labels(*who, str(record.status)).inc()
        if record.error in _SHED:
            self._shed.labels(self._domain, class_name, _SHED[record.error]).inc()
        if record.completion_tokens:
            self._tokens.labels(*who, record.variant, "in").inc(record.prompt_tokens)
            self._tokens.labels(*who, record.variant, "out").inc(record.completion_tokens)
            self._gpu.labels(*who, record.variant).inc(record.gpu_ms)
        if is_stream and record.first_ms:
            self._first.labels(*who).observe(record.first_ms / _MS)
            if record.completion_tokens > 1:
                after_first = (record.total_ms - record.first_ms) / (record.completion_tokens - 1)
                self._token.labels(*who).observe(after_first / _MS)

    def refused(self, status: int) -> None:
        """Count a request without a valid key: nobody's."""
        self._requests.labels(self._domain, "", "", str(status)).inc()

    def exposition(self, queued: Iterable[tuple[str, int]], in_flight: Iterable[tuple[str, int]]) -> bytes:
        """Return the text that Prometheus reads, with the waiting by class and the inside by claim as they are now."""
        self._queued.clear()
        self._in_flight.clear()
        for class_name, count in queued:
            self._queued.labels(self._domain, class_name).set(count)
        for claim, count in in_flight:
            self._in_flight.labels(self._domain, claim).set(count)
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"partage_gateway_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], bounds: tuple[float, ...]) -> Histogram:
        return Histogram(f"partage_gateway_{name}", text, labels, buckets=bounds, registry=self._registry)
