"""Ray's dashboard as this project uses it: Serve applications and nodes over HTTP. Shared by observing and acting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

APPLICATIONS = "/api/serve/applications/"
NODES = "/api/v0/nodes?detail=1&limit=10000"
SCALE = "/api/v1/applications/{app}/deployments/{deployment}/scale"

RUNNING = "RUNNING"


class RayUnreadable(Exception):
    """A domain's Ray dashboard did not give a usable answer."""

    code = "ray_unreadable"

    def __init__(self, base_url: str, cause: str, detail: str = "") -> None:
        super().__init__(base_url, cause, detail)
        self.base_url, self.cause, self.detail = base_url, cause, detail

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"the Ray dashboard at {self.base_url} gave no usable answer: {self.cause}{detail}; see the head's log"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNode:
    """A living Ray node."""

    id: str
    """Hex; the value of the label ``ray.io/node-id``."""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    """IP address; on Kubernetes the pod's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeApp:
    """A Serve application as the controller reports it. Our applications have one deployment."""

    name: str
    status: str
    """The controller's word; says nothing of replicas that cannot be placed, hence ``replicas``."""
    message: str
    config: Mapping[str, Any]
    """The configuration that it was deployed with, as it was put."""
    target: int
    """Replicas that the controller aims at."""
    replicas: tuple[str, ...]
    """State of each replica."""

    @property
    def running(self) -> int:
        """Replicas seen RUNNING: the only measure of progress."""
        return sum(1 for state in self.replicas if state == RUNNING)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What the application's builder was given."""
        given: Mapping[str, Any] = self.config.get("args") or {}
        return given


class RayDashboard:
    """HTTP client of one domain's dashboard. Safe to use from several threads; every call ends within its timeout."""

    def __init__(self, base_url: str, token: str, timeout_s: float) -> None:
        self.base_url = base_url
        self._client = httpx.Client(
            base_url=base_url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout_s, trust_env=False
        )

    def is_up(self) -> bool:
        """Return whether the dashboard answers to this token and a node has joined."""
        try:
            return bool(self.nodes())
        except RayUnreadable:
            return False

    def nodes(self) -> tuple[RayNode, ...]:
        """Return the living nodes, sorted by id. Raises ``RayUnreadable``."""
        answer = self._call("GET", NODES)
        try:
            listed = answer["data"]["result"]["result"]
            living = [node for node in listed if node["state"] == "ALIVE"]
            found = [
                RayNode(id=node["node_id"], labels=node.get("labels") or {}, address=str(node.get("node_ip") or ""))
                for node in living
            ]
        except (KeyError, TypeError) as error:
            raise RayUnreadable(self.base_url, "nodes_not_understood", repr(error)) from error
        return tuple(sorted(found, key=lambda node: node.id))

    def applications(self) -> Mapping[str, ServeApp]:
        """Return the applications by name; empty before the first was put. Raises ``RayUnreadable``."""
        answer = self._call("GET", APPLICATIONS)
        try:
            return {name: _app(name, found) for name, found in sorted(answer["applications"].items())}
        except (KeyError, TypeError, AttributeError) as error:
            raise RayUnreadable(self.base_url, "applications_not_understood", repr(error)) from error

    def put_applications(self, config: Mapping[str, Any]) -> None:
        """Make the config the whole truth: applications left out are deleted. Raises ``RayUnreadable``."""
        self._call("PUT", APPLICATIONS, config)

    def scale(self, app: str, deployment: str, replicas: int) -> None:
        """Let the controller aim at so many replicas; accepted, not awaited. Raises ``RayUnreadable``."""
        self._call("POST", SCALE.format(app=app, deployment=deployment), {"target_num_replicas": replicas})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.TimeoutException as error:
            raise RayUnreadable(self.base_url, "timeout", type(error).__name__) from error
        except httpx.HTTPError as error:
            raise RayUnreadable(self.base_url, "unreachable", str(error)) from error
        if not answer.is_success:
            raise RayUnreadable(self.base_url, f"http_{answer.status_code}", answer.text[:300])
        if not answer.content or "json" not in answer.headers.get("content-type", ""):
            return {}
        try:
            return answer.json()
        except ValueError as error:
            raise RayUnreadable(self.base_url, "not_json", str(error)) from error


def _app(name: str, found: Mapping[str, Any]) -> ServeApp:
    deployments = found.get("deployments") or {}
    states = [replica["state"] for each in deployments.values() for replica in each.get("replicas") or ()]
    messages = [found.get("message") or "", *(each.get("message") or "" for each in deployments.values())]
    config = found.get("deployed_app_config") or {}
    return ServeApp(
        name=name,
        status=found["status"],
        message=next((message for message in messages if message), ""),
        config=config,
        target=_target(deployments, config),
        replicas=tuple(sorted(states)),
    )


def _target(deployments: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """Return what the controller aims at, or what was put while the application is still being built."""
    for deployment in deployments.values():
        if deployment.get("target_num_replicas") is not None:
            return int(deployment["target_num_replicas"])
    put = (config.get("deployments") or [{}])[0].get("num_replicas")
    return int(put) if put is not None else 1
