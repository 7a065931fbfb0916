"""A program for test_moves_e2e: a variant is changed, grown and shrunk in a real Ray cluster while clients ask.

Prints one JSON object: what the clients saw, step by step.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from policies.model.codec import to_plain
from policies.model.keys import key_mac, key_prefix
from policies.model.routing import KeyRecord, Route, RoutedGroup, RoutingTable
from policies.model.units import SecurityDomain

KEY, TENANT, MODEL = "pk-civil-moves-000000" + "s" * 32, "civil/moves", "synthetic"
PEPPER, CONTROL = b"moves-pepper", "moves-control"
CLIENTS = 8
STEP_LIMIT_S = 90


class Cluster:
    """The applications as one writer keeps them: every change puts all of them."""

    def __init__(self, dashboard: str, folder: Path, door_port: int) -> None:
        self._dashboard = dashboard
        self._folder = folder
        self._door_port = door_port
        self._generation = 0
        self.groups: dict[str, int] = {}
        """Replicas by group."""
        self.routed: dict[str, int] = {}
        self.door = f"http://127.0.0.1:{door_port}"

    async def put(self) -> None:
        self._generation += 1
        apps = [self._gateway(), *(self._group(name, replicas) for name, replicas in self.groups.items())]
        async with httpx.AsyncClient(timeout=60) as http:
            url = f"{self._dashboard}/api/serve/applications/"
            answer = await http.put(url, json={"proxy_location": "Disabled", "applications": apps})
            answer.raise_for_status()

    async def running(self, **wanted: int) -> None:
        """Return when each group has exactly this many replicas, all RUNNING."""
        async with httpx.AsyncClient(timeout=60) as http, asyncio.timeout(STEP_LIMIT_S):
            while True:
                apps = (await http.get(f"{self._dashboard}/api/serve/applications/")).json()["applications"]
                found = {
                    name: [r["state"] for d in apps[name]["deployments"].values() for r in d["replicas"]]
                    for name in wanted
                    if name in apps
                }
                if all(found.get(name) == ["RUNNING"] * count for name, count in wanted.items()):
                    return
                await asyncio.sleep(0.2)

    async def empty(self, group: str) -> None:
        """Return when the gateway has this generation in force and reports nothing inside the group."""
        async with httpx.AsyncClient(timeout=60) as http, asyncio.timeout(STEP_LIMIT_S):
            while True:
                headers = {"authorization": f"Bearer {CONTROL}"}
                load = (await http.get(f"{self.door}/-/partage/load", headers=headers)).json()
                inside = {entry["group"]: entry["in_flight"] for entry in load["groups"]}
                if load["generation"] == self._generation and not inside.get(group, 0):
                    return
                await asyncio.sleep(0.1)

    def _gateway(self) -> dict[str, Any]:
        groups = tuple(
            RoutedGroup(group=name, variant=name, rung=0, replicas=replicas, concurrency=4)
            for name, replicas in self.routed.items()
        )
        route = Route(claim=f"{TENANT}:m", tenant=TENANT, model=MODEL, groups=groups, min_replicas=1, max_replicas=2)
        key = KeyRecord(prefix=key_prefix(KEY), mac=key_mac(PEPPER, KEY), tenant=TENANT)
        table = RoutingTable(
            generation=self._generation, domain=SecurityDomain.CIVIL, routes=(route,) if groups else (), keys=(key,)
        )
        files = {"pepper_file": str(self._folder / "pepper"), "control_token_file": str(self._folder / "control")}
        return {
            "name": "gateway",
            "route_prefix": "/",
            "import_path": "serving.apps.gateway:build",
            "args": {"domain": "civil", "door_port": self._door_port, **files},
            "deployments": [{"name": "Gateway", "num_replicas": 1, "user_config": to_plain(table)}],
        }

    def _group(self, name: str, replicas: int) -> dict[str, Any]:
        args = {"group": name, "model": MODEL, "variant": name, "engine": "synthetic", "concurrency": 4}
        return {
            "name": name,
            "route_prefix": None,
            "import_path": "serving.apps.engine:build",
            "args": args | {"options": {"first_token_ms": 50, "token_ms": 10}},
            "deployments": [{"name": "Engine", "num_replicas": replicas, "ray_actor_options": {"num_cpus": 0.01}}],
        }


class Clients:
    """Ask one request after another, half of them streamed, and count what came back."""

    def __init__(self, door: str) -> None:
        self._door = door
        self._stopped = False
        self.answered: dict[str, int] = {}
        self.failed: list[str] = []
        self.ended: list[tuple[int, str]] = []
        """When each answer ended, in ms from the start, and which variant gave it; empty for a failure."""
        self.began_s = time.monotonic()

    def now_ms(self) -> int:
        return round((time.monotonic() - self.began_s) * 1000)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(self._one(number))

    def stop(self) -> None:
        self._stopped = True

    async def _one(self, number: int) -> None:
        async with httpx.AsyncClient(timeout=120, headers={"authorization": f"Bearer {KEY}"}) as http:
            while not self._stopped:
                body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 20 + number * 10}
                try:
                    answer = await http.post(
                        f"{self._door}/v1/chat/completions", json=body | {"stream": bool(number % 2)}
                    )
                except httpx.HTTPError as fault:
                    self.failed.append(type(fault).__name__)
                    self.ended.append((self.now_ms(), ""))
                    continue
                whole = not number % 2 or answer.text.endswith("data: [DONE]\n\n")
                is_good = answer.status_code == 200 and whole
                self.ended.append((self.now_ms(), answer.headers.get("x-partage-variant", "") if is_good else ""))
                if not is_good:
                    self.failed.append(f"{answer.status_code} {answer.text[:200]}")
                variant = answer.headers.get("x-partage-variant", "")
                self.answered[variant] = self.answered.get(variant, 0) + 1


async def tell(cluster: Cluster) -> dict[str, Any]:
    cluster.groups, cluster.routed = {"old": 1}, {"old": 1}
    await cluster.put()
    await cluster.running(gateway=1, old=1)
    clients = Clients(cluster.door)
    asking = asyncio.create_task(clients.run())
    steps = [await _after(clients, "steady")]
    cluster.groups["new"] = 1
    await cluster.put()
    await cluster.running(new=1, old=1)
    cluster.routed = {"new": 1}
    await cluster.put()
    await cluster.empty("old")
    del cluster.groups["old"]
    await cluster.put()
    steps.append(await _after(clients, "another variant"))
    cluster.groups["new"] = 2
    await cluster.put()
    await cluster.running(new=2)
    cluster.routed = {"new": 2}
    await cluster.put()
    steps.append(await _after(clients, "grown"))
    cluster.routed, cluster.groups = {"new": 1}, {"new": 1}
    await cluster.put()
    await cluster.running(new=1)
    steps.append(await _after(clients, "shrunk"))
    clients.stop()
    await asking
    return {"steps": steps, "failed": clients.failed, "ended": clients.ended}


async def _after(clients: Clients, step: str) -> dict[str, Any]:
    await asyncio.sleep(3)
    answered = dict(clients.answered)
    return {"step": step, "at_ms": clients.now_ms(), "answered": answered, "failed": len(clients.failed)}


def main() -> None:
    environment = os.environ  # noqa: TID251  # Ray reads its settings there when it is imported
    environment.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0")
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])  # Ray's processes import the applications from here
    import ray

    with tempfile.TemporaryDirectory(prefix="mv", dir="/tmp") as temp:
        folder = Path(temp)
        (folder / "pepper").write_bytes(PEPPER)
        (folder / "control").write_text(CONTROL)
        ports = int(sys.argv[1])
        ray.init(
            num_cpus=8,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=ports,
            object_store_memory=80_000_000,
            _temp_dir=str(folder / "ray"),
            logging_level="ERROR",
            log_to_driver=False,
        )
        try:
            print(json.dumps(asyncio.run(tell(Cluster(f"http://127.0.0.1:{ports}", folder, ports + 1)))))  # noqa: T201
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
