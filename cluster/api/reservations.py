"""Reservations: a tenant's quota and floor, larger for a time. Operators make them; a tenant sees its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Body, Response

from cluster.api.parts import Anyone, Cursor, IfMatch, IfNoneMatch, Limit, Operator, Page, Parts, Platform, page_of
from cluster.api.problems import ApiRefusal
from cluster.refusals import Conflict, NotFound
from policies.model.codec import digest
from policies.model.naming import tenant_of
from policies.model.units import WHOLE_GPU_MILLIS
from policies.model.workload import Reservation
from policies.shares.quota import kept_at_start

routes = APIRouter(prefix="/v1/reservations", tags=["reservations"])

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
LONGEST_MS = 366 * 86_400_000
LATEST_MS = 2**53


@routes.get("")
def list_reservations(parts: Platform, caller: Anyone, limit: Limit = 500, cursor: Cursor = None) -> Page[Reservation]:
    """Return the reservations that the caller may see; ended ones stay for a day."""
    seen = [one for one in parts.journal.reservations() if caller.may_see(one.tenant)]
    return page_of(parts, seen, lambda one: one.id, limit, cursor)


@routes.get("/{name:path}")
def get_reservation(parts: Platform, caller: Anyone, name: str, response: Response) -> Reservation:
    """Return one reservation; its digest is the ETag."""
    caller.require_sight("reservation", name, tenant_of(name))
    found = _stored(parts, name)
    if found is None:
        raise NotFound("reservation", name)
    response.headers["ETag"] = f'"{digest(found)}"'
    return found


@routes.put("/{name:path}")
def put_reservation(
    parts: Platform,
    caller: Operator,
    name: str,
    reservation: Annotated[Reservation, Body()],
    response: Response,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Reservation:
    """Keep the capacity for the tenant, on top of its quota.

    From its start on it is not lent to anybody anew, and what is lent is taken back as soon as the tenant asks.
    """
    _refuse_unread(_stored(parts, name), name, if_match, if_none_match)
    now_ms = parts.clock.now_ms()
    faults = [{"pointer": where, "detail": what} for where, what in _faults(parts, reservation, name, now_ms)]
    if faults:
        raise ApiRefusal("invalid", f"{faults[0]['pointer']}: {faults[0]['detail']}", errors=faults)
    parts.registry.by(caller.name).put_reservation(reservation)
    parts.wake()
    response.headers["ETag"] = f'"{digest(reservation)}"'
    return reservation


@routes.delete("/{name:path}", status_code=204)
def delete_reservation(parts: Platform, caller: Operator, name: str) -> None:
    """Give the capacity up."""
    parts.registry.by(caller.name).delete_reservation(name)
    parts.wake()


def _stored(parts: Parts, name: str) -> Reservation | None:
    return next((one for one in parts.journal.reservations() if one.id == name), None)


def _refuse_unread(stored: Reservation | None, name: str, if_match: str | None, if_none_match: str | None) -> None:
    """Raise ``precondition_required``, or ``Conflict`` where the change was made from another reservation."""
    if if_match is None and if_none_match is None:
        detail = 'send If-Match: "<digest>" for a change, If-None-Match: * for a new reservation'
        raise ApiRefusal("precondition_required", detail)
    if if_none_match == "*" and stored is not None:
        raise Conflict(f"reservation {name}", 0, 1)
    if if_match is not None and (stored is None or if_match not in {"*", f'"{digest(stored)}"'}):
        raise Conflict(f"reservation {name}", 1, int(stored is not None))


def _faults(parts: Parts, asked: Reservation, name: str, now_ms: int) -> Iterator[tuple[str, str]]:
    policy = parts.journal.policy()
    tenant, _, short = asked.id.partition(":")
    if asked.id != name:
        yield "/id", f"the reservation is called {asked.id!r}, the address says {name!r}"
    if tenant != asked.tenant or not NAME.fullmatch(short):
        yield "/id", f"a reservation of {asked.tenant!r} is called '{asked.tenant}:<name>', name as in {NAME.pattern}"
    if not 0 <= asked.starts_at_ms < asked.ends_at_ms < LATEST_MS or asked.ends_at_ms - asked.starts_at_ms > LONGEST_MS:
        yield "/ends_at_ms", "a reservation ends after it starts and lasts at most 366 days"
    elif asked.ends_at_ms <= now_ms:
        yield "/ends_at_ms", "this time is over"
    if asked.tenant not in {known.id for known in policy.tenants}:
        yield "/tenant", f"the policy knows no tenant {asked.tenant!r}"
    there = sum(WHOLE_GPU_MILLIS for one in parts.view.latest().snapshot.devices if one.flavor == asked.flavor)
    if not there:
        yield "/flavor", f"there is no device of the kind {asked.flavor!r}"
    elif not 1 <= asked.gpu_millis <= there:
        yield "/gpu_millis", f"between 1 and {there} thousandths of these devices can be kept"
    elif (kept := _kept(parts, asked)) < asked.gpu_millis:
        yield "/gpu_millis", f"the floors of others and earlier reservations leave {kept} thousandths when it begins"


def _kept(parts: Parts, asked: Reservation) -> int:
    seen = replace(parts.view.latest().snapshot, reservations=parts.journal.reservations())
    return kept_at_start(seen, parts.journal.policy(), asked)
