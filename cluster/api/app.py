"""The HTTP API as one application."""

from __future__ import annotations

from fastapi import FastAPI

from cluster.api import (
    canaries,
    claims,
    decisions,
    docs,
    events,
    health,
    inventory,
    keys,
    models,
    modes,
    offers,
    policies,
    readings,
    reservations,
)
from cluster.api.idempotency import Once
from cluster.api.limits import Door
from cluster.api.parts import Parts
from cluster.api.problems import install
from cluster.api.traces import Traced
from cluster.observe.telemetry import receiver

ROUTERS = (
    health.routes,
    canaries.routes,
    claims.routes,
    inventory.routes,
    readings.routes,
    decisions.routes,
    policies.routes,
    reservations.routes,
    keys.routes,
    models.routes,
    offers.routes,
    modes.routes,
    events.routes,
    docs.routes,
)
"""Every group of routes."""


def create(parts: Parts) -> FastAPI:
    """Return the application; its documentation needs no network."""
    app = FastAPI(
        title="partage",
        summary="Shares the GPUs of one cloud between security domains.",
        version="1",
        docs_url=None,
        redoc_url=None,
    )
    app.state.parts = parts
    for routes in ROUTERS:
        app.include_router(routes)
    if parts.telemetry is not None:
        app.include_router(receiver.routes(parts.telemetry))
    install(app)
    app.add_middleware(Once, store=parts.store, settings=parts.settings, clock=parts.clock)
    if parts.tracer is not None:
        app.add_middleware(Traced, tracer=parts.tracer, clock=parts.clock)
    app.add_middleware(Door, settings=parts.settings, clock=parts.clock)
    return app
