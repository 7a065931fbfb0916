"""The models on offer, and what was used of them."""

from __future__ import annotations

from fastapi import APIRouter

from cluster.api.parts import Anyone, Cursor, Limit, Page, Platform, page_of
from cluster.usage import DayUse
from policies.model.catalogue import Model

routes = APIRouter(prefix="/v1", tags=["models"])


@routes.get("/models")
def models(parts: Platform, _caller: Anyone, limit: Limit = 500, cursor: Cursor = None) -> Page[Model]:
    """Return the catalogue: the models that a claim may name, each with its variants, best first."""
    return page_of(parts, parts.models(), lambda model: model.id, limit, cursor)


@routes.get("/usage")
def usage(parts: Platform, caller: Anyone, limit: Limit = 500, cursor: Cursor = None) -> Page[DayUse]:
    """Return what the tenants that the caller may see used, by day and model, oldest day first; the last 31 days."""
    seen = [row for row in parts.usage() if caller.may_see(row.tenant)]
    return page_of(parts, seen, lambda row: f"{row.day} {row.tenant} {row.model}", limit, cursor)
