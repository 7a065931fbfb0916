"""The programs that the gateway benchmark compares, each in a process of its own with the same synthetic engine.

``python -m tests.benchmarks.gateway_sides SIDE PORT FOLDER`` serves on loopback until it is terminated.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from policies.model.codec import to_plain
from policies.model.keys import key_mac, key_prefix
from policies.model.routing import KeyRecord, Route, RoutedGroup, RoutingTable
from policies.model.units import SecurityDomain
from serving.engines.protocol import Call, EngineSpec, PieceKind
from serving.engines.synthetic import Synthetic

MODEL = "synthetic-bench"
KEY = "pk-civil-bench-000000" + "s" * 32
TENANT = "civil/bench"
PEPPER = b"bench-pepper"
CONCURRENCY = 64
SPEC = EngineSpec(group="g1", model=MODEL, variant="none", engine="synthetic", concurrency=CONCURRENCY)
HAPROXY = "haproxy"


def main(side: str, port: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if side == "upstream":
        serve_upstream(port)
        return
    start_ray(side, port, folder)
    SIDES[side.removesuffix(f"-{HAPROXY}")](port, folder)
    (folder / "ready").write_text("ready")
    signal.pause()


def serve_upstream(port: int) -> None:
    """Serve the engine behind plain HTTP: LiteLLM forwards to it, and added latency is counted from it."""
    import uvicorn

    engine = Synthetic(SPEC)
    uvicorn.run(asgi(lambda body: engine.answer(Call(operation="chat", body=body))), port=port, **QUIET)


QUIET: dict[str, Any] = {"host": "127.0.0.1", "log_level": "error", "access_log": False, "lifespan": "off"}


def asgi(answer: Callable[[dict[str, Any]], Any]) -> Any:
    """Return the least ASGI application that passes an answer on, streamed or not."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                await send({"type": (await receive())["type"] + ".complete"})
        raw, more = b"", True
        while more:
            message = await receive()
            raw, more = raw + message.get("body", b""), message.get("more_body", False)
        body = json.loads(raw)
        kind = b"text/event-stream" if body.get("stream") else b"application/json"
        pieces = [] if not body.get("stream") else None
        if pieces is None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        async for piece_kind, payload in answer(body):
            if piece_kind != PieceKind.DATA:
                continue
            if pieces is None:
                await send({"type": "http.response.body", "body": b"data: %b\n\n" % payload, "more_body": True})
            else:
                pieces.append(payload)
        if pieces is None:
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
            return
        length = (b"content-length", b"%d" % len(pieces[0]))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind), length]})
        await send({"type": "http.response.body", "body": pieces[0]})

    return app


def start_ray(side: str, port: int, folder: Path) -> None:
    temp = f"/tmp/bg{os.getpid()}"
    environment = os.environ  # noqa: TID251  # Ray reads its settings there when it is imported
    environment.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0")
    if side.endswith(HAPROXY):
        environment.update(
            RAY_SERVE_THROUGHPUT_OPTIMIZED="1",
            RAY_SERVE_ENABLE_HA_PROXY="1",
            RAY_SERVE_HAPROXY_CONFIG_FILE_LOC=f"{temp}/h/haproxy.cfg",
            RAY_SERVE_HAPROXY_SOCKET_PATH=f"{temp}/h/admin.sock",
            RAY_SERVE_HAPROXY_SERVER_STATE_BASE=f"{temp}/h",
            RAY_SERVE_HAPROXY_SERVER_STATE_FILE=f"{temp}/h/state",
            RAY_SERVE_HAPROXY_STATS_PORT=str(port + 1),
            RAY_SERVE_HAPROXY_METRICS_PORT=str(port + 2),
            RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S="1",
        )
    import ray
    from ray import serve

    ray.init(
        num_cpus=8,
        include_dashboard=False,
        object_store_memory=80_000_000,
        _temp_dir=temp,
        logging_level="ERROR",
        log_to_driver=False,
    )
    if side == "partage-door":
        serve.start(proxy_location="Disabled")  # the gateway's own door takes the port
    else:
        serve.start(http_options={"host": "127.0.0.1", "port": port})


def serve_partage(port: int, folder: Path) -> None:
    deploy_partage(folder, {})


def serve_partage_door(port: int, folder: Path) -> None:
    deploy_partage(folder, {"door_port": port})


def deploy_partage(folder: Path, door: dict[str, Any]) -> None:
    from ray import serve

    from serving.apps import engine, gateway

    (folder / "pepper").write_bytes(PEPPER)
    (folder / "control").write_text("control")
    serve.run(
        engine.build(
            {"group": "g1", "model": MODEL, "variant": "none", "engine": "synthetic", "concurrency": CONCURRENCY}
        ),
        name="g1",
        route_prefix=None,
    )
    app = gateway.build(
        {"domain": "civil", "pepper_file": folder / "pepper", "control_token_file": folder / "control", **door}
    )
    app._bound_deployment = app._bound_deployment.options(user_config=to_plain(table()))
    serve.run(app, name="gateway", route_prefix="/")


def table() -> RoutingTable:
    group = RoutedGroup(group="g1", variant="none", rung=0, replicas=1, concurrency=CONCURRENCY)
    route = Route(claim=f"{TENANT}:bench", tenant=TENANT, model=MODEL, groups=(group,), min_replicas=1, max_replicas=1)
    key = KeyRecord(prefix=key_prefix(KEY), mac=key_mac(PEPPER, KEY), tenant=TENANT)
    return RoutingTable(generation=1, domain=SecurityDomain.CIVIL, routes=(route,), keys=(key,))


class Bare:
    """The second hop of bare Ray Serve: the same engine."""

    def __init__(self) -> None:
        self._engine = Synthetic(SPEC)

    async def stream(self, body: dict[str, Any]) -> Any:
        async for piece in self._engine.answer(Call(operation="chat", body=body)):
            yield piece.kind, piece.payload

    async def whole(self, body: dict[str, Any]) -> Any:
        return [(p.kind, p.payload) async for p in self._engine.answer(Call(operation="chat", body=body))]


class Ingress:
    """The first hop of bare Ray Serve: passes on, without keys, queues or counts."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._stream = engine.options(stream=True).stream

    def __serve_build_asgi_app__(self) -> Any:
        return asgi(self._answer)

    async def _answer(self, body: dict[str, Any]) -> Any:
        if not body.get("stream"):
            for piece in await self._engine.whole.remote(body):
                yield piece
            return
        async for piece in self._stream.remote(body):
            yield piece


def serve_bare(port: int, folder: Path) -> None:
    """Ray Serve with the same two hops and nothing of ours in between."""
    from ray import serve

    deployed = serve.deployment(name="Bare", max_ongoing_requests=CONCURRENCY * 4)(Bare)
    front = serve.deployment(name="Ingress", max_ongoing_requests=CONCURRENCY * 4)(serve.ingress()(Ingress))
    serve.run(front.bind(deployed.bind()), name="bare", route_prefix="/")


SIDES = {
    "partage": serve_partage,
    "partage-serve": serve_partage,
    "partage-door": serve_partage_door,
    "serve": serve_bare,
}

if __name__ == "__main__":
    asyncio.set_event_loop_policy(None)
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
