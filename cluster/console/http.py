"""The console's source over the HTTP API: the control plane's own checks decide what each token may see and do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cluster.client import Client, Problem, Unreachable
from cluster.console.offers import offer_of
from cluster.console.port import ConsoleRefused, ControlPlaneSilent, Offer, TokenRefused, Wish
from cluster.console.reading import operator_scene, tenant_scene
from cluster.console.scene import Scene, Viewer
from cluster.console.words import Words
from cluster.ports import Clock
from policies.model.units import TenantId

Result = TypeVar("Result")
TIMEOUT_S = 10.0
KEY_DAYS = 90
UNAUTHENTICATED = 401


@dataclass(frozen=True, slots=True)
class HttpSource:
    """One control plane at one address."""

    url: str
    clock: Clock

    async def viewer(self, token: str) -> Viewer:
        """Return who bears the token. Raises ``TokenRefused``."""
        found = await self._ask(token, lambda client: client.get("/v1/whoami"))
        tenant = found.get("tenant")
        return Viewer(name=str(tenant or found["name"]), tenant=TenantId(tenant) if tenant else None)

    async def scene(self, token: str) -> Scene:
        """Return what the bearer may see now."""
        viewer = await self.viewer(token)
        read = operator_scene if viewer.is_operator else tenant_scene
        return await self._ask(token, lambda client: read(client, viewer, self.clock.now_ms()))

    async def offer(self, token: str, wish: Wish, words: Words) -> Offer:
        """Return what the wish would bring: the control plane decides with the wish in it, and forgets it."""
        try:
            await self._put(token, wish, dry_run=True)
            found = await self._change(token, "POST", "/v1/offers", _offered(wish), {})
        except TokenRefused:
            raise
        except ConsoleRefused as refusal:
            return Offer(lines=(str(refusal),), acceptable=False)
        return offer_of(found, words, self.clock.now_ms())

    async def submit(self, token: str, wish: Wish) -> None:
        """Make the wish a claim."""
        await self._put(token, wish, dry_run=False)

    async def delete(self, token: str, claim: str) -> None:
        """Give the claim up; its requests in flight are answered first."""
        await self._change(token, "DELETE", f"/v1/claims/{claim}", None, {"If-Match": "*"})

    async def start_canary(self, token: str, claim: str, variant: str, weight_percent: int) -> None:
        """Try the variant on so many percent of the claim's requests."""
        body = {"variant": variant, "weight_percent": weight_percent}
        await self._change(token, "POST", f"/v1/claims/{claim}/canary", body, {})

    async def weigh_canary(self, token: str, claim: str, weight_percent: int) -> None:
        """Give the claim's canary another part of its requests."""
        body = {"weight_percent": weight_percent}
        await self._change(token, "PATCH", f"/v1/claims/{claim}/canary", body, {"If-Match": "*"})

    async def promote_canary(self, token: str, claim: str) -> None:
        """Make the canary's variant the claim's own."""
        await self._change(token, "POST", f"/v1/claims/{claim}/canary/promote", None, {})

    async def end_canary(self, token: str, claim: str) -> None:
        """End the trial: the claim answers everything again."""
        await self._change(token, "DELETE", f"/v1/claims/{claim}/canary", None, {"If-Match": "*"})

    async def make_key(self, token: str, tenant: str) -> str:
        """Make a key of 90 days for the tenant and return it, the only time that it can be."""
        answer = await self._change(token, "POST", "/v1/keys", {"tenant": tenant, "days": KEY_DAYS}, {})
        return str(answer["key"])

    async def revoke(self, token: str, prefix: str) -> None:
        """Make the key worthless."""
        await self._change(token, "DELETE", f"/v1/keys/{prefix}", None, {})

    async def cordon(self, token: str, subject: str, reason: str) -> None:
        """Take the node or device out of use."""
        await self._change(token, "PUT", f"/v1/cordons/{subject}", {"reason": reason}, {})

    async def uncordon(self, token: str, subject: str) -> None:
        """Put the node or device back into use."""
        await self._change(token, "DELETE", f"/v1/cordons/{subject}", None, {})

    async def propose_mode(self, token: str, mode: str, hours: int, reason: str) -> None:
        """Propose a mode; a second person approves it."""
        await self._change(token, "POST", "/v1/modes", {"mode": mode, "hours": hours, "reason": reason}, {})

    async def approve(self, token: str, proposal: str) -> None:
        """Approve what another person proposed."""
        await self._change(token, "POST", f"/v1/modes/{proposal}/approve", {}, {})

    async def _put(self, token: str, wish: Wish, *, dry_run: bool) -> None:
        body: dict[str, object] = {
            "id": wish.claim,
            "tenant": wish.tenant,
            "kind": "serving" if wish.model else "job",
            "model": wish.model or None,
            "ladder": [] if wish.model else [{"flavors": []}],
            "min_replicas": wish.min_replicas,
            "desired_replicas": wish.desired_replicas,
            "max_replicas": wish.max_replicas,
            "priority_class": wish.priority_class,
        }
        path, headers = f"/v1/claims/{wish.claim}", {"If-None-Match": "*"}
        query: dict[str, object] = {"dry_run": "true"} if dry_run else {}
        await self._ask(token, lambda client: client.call("PUT", path, body=body, query=query, headers=headers))

    async def _change(self, token: str, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        answer = await self._ask(token, lambda client: client.call(method, path, body=body, headers=headers))
        return answer.body

    async def _ask(self, token: str, call: Callable[[Client], Result]) -> Result:
        client = Client(url=self.url, token=token, timeout_s=TIMEOUT_S)
        try:
            return await asyncio.to_thread(call, client)
        except Problem as problem:
            if problem.status == UNAUTHENTICATED:
                raise TokenRefused(str(problem)) from problem
            raise ConsoleRefused(str(problem)) from problem
        except Unreachable as silent:
            raise ControlPlaneSilent(str(silent)) from silent


def _offered(wish: Wish) -> dict[str, object]:
    return {
        "tenant": wish.tenant,
        "model": wish.model or None,
        "replicas": max(1, wish.desired_replicas),
        "priority_class": wish.priority_class,
    }
