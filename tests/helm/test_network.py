"""The chart's NetworkPolicies, evaluated: which pod may open a connection to which."""

from __future__ import annotations

import itertools

import pytest

from tests.helm.chart import MATRIX, of_kind, rendered


class Network:
    """Evaluates NetworkPolicies: which pod may open a connection to which."""

    def __init__(self, objects: tuple[dict, ...]) -> None:
        self.policies = of_kind(objects, "NetworkPolicy")

    def allows(self, source: tuple[str, dict], target: tuple[str, dict], port: int) -> bool:
        return self._side("egress", source, target, port) and self._side("ingress", target, source, port)

    def _side(self, side: str, here: tuple[str, dict], there: tuple[str, dict], port: int) -> bool:
        kind = side.capitalize()
        chosen = [
            policy["spec"]
            for policy in self.policies
            if policy["metadata"]["namespace"] == here[0]
            and kind in policy["spec"]["policyTypes"]
            and _matches(policy["spec"]["podSelector"], here[1])
        ]
        if not chosen:
            return True
        peers = "to" if side == "egress" else "from"
        return any(
            _port(rule, port) and (peers not in rule or any(_peer(peer, here[0], there) for peer in rule[peers]))
            for spec in chosen
            for rule in spec.get(side) or ()
        )


def _matches(selector: dict, labels: dict) -> bool:
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())


def _port(rule: dict, port: int) -> bool:
    return "ports" not in rule or any(
        each["port"] <= port <= each.get("endPort", each["port"]) for each in rule["ports"]
    )


def _peer(peer: dict, namespace: str, there: tuple[str, dict]) -> bool:
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        if not _matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": there[0]}):
            return False
    elif there[0] != namespace:
        return False
    return _matches(peer.get("podSelector") or {}, there[1])


def _pod(component: str, domain: str = "") -> dict:
    labels = {
        "app.kubernetes.io/name": "partage",
        "app.kubernetes.io/instance": "partage",
        "app.kubernetes.io/component": component,
    }
    return labels | ({"partage.lu/domain": domain} if domain else {})


PLACES = {
    "control plane": ("partage", _pod("control-plane")),
    "agent": ("partage-agent", _pod("agent")),
    "defence head": ("partage-defence", _pod("ray-head", "defence")),
    "defence worker": ("partage-defence", _pod("ray-worker", "defence")),
    "civil head": ("partage-civil", _pod("ray-head", "civil")),
    "civil worker": ("partage-civil", _pod("ray-worker", "civil")),
    "operator": ("kuberay-operator", {"app.kubernetes.io/name": "kuberay-operator"}),
    "operator's neighbour": ("kuberay-operator", {}),
    "Prometheus": ("monitoring", {}),
    "anyone": ("default", {}),
}
PORTS = (6379, 8000, 8080, 8265, 8700, 9400, 10001)


def _who_reaches(target: str, port: int, case: str = "default") -> set[str]:
    network = Network(rendered(case))
    return {name for name, place in PLACES.items() if name != target and network.allows(place, PLACES[target], port)}


def test_domains_cannot_reach_each_other_on_any_port() -> None:
    network = Network(rendered("default"))
    defence = [place for name, place in PLACES.items() if name.startswith("defence")]
    civil = [place for name, place in PLACES.items() if name.startswith("civil")]
    for one, other, port in itertools.product(defence, civil, PORTS):
        assert not network.allows(one, other, port)
        assert not network.allows(other, one, port)


def test_the_dashboard_is_reached_by_the_control_plane_and_the_operators_own_pods_alone() -> None:
    for domain in ("civil", "defence"):
        assert _who_reaches(f"{domain} head", 8265) == {"control plane", "operator"}


def test_workers_reach_every_other_port_of_their_own_head() -> None:
    for port in (1, 6379, 8264, 8266, 10001, 65535):
        assert "civil worker" in _who_reaches("civil head", port)


def test_models_are_reached_through_the_gateway_by_named_clients_alone() -> None:
    assert _who_reaches("civil head", 8000) == {"control plane", "operator", "civil worker"}
    for port in (8000, 8265, 6379):
        assert _who_reaches("civil worker", port) == {"civil head"}


def test_the_control_plane_is_reached_by_agents_and_prometheus_and_reaches_only_the_heads() -> None:
    assert _who_reaches("control plane", 8700) == {"agent", "Prometheus"}
    assert _who_reaches("control plane", 22) == set()


def test_the_agent_is_reached_by_prometheus_alone() -> None:
    assert _who_reaches("agent", 9400) == {"Prometheus"}
    assert _who_reaches("agent", 22) == set()


@pytest.mark.parametrize("case", MATRIX)
def test_each_namespace_denies_by_default_in_both_directions(case: str) -> None:
    objects = rendered(case)
    policies = of_kind(objects, "NetworkPolicy")
    if not policies:
        assert "networkPolicy.enabled=false" in str(MATRIX[case])
        return
    denied = {
        policy["metadata"]["namespace"]
        for policy in policies
        if policy["metadata"]["name"] == "partage-default-deny"
        and policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    used = {obj["metadata"]["namespace"] for obj in of_kind(objects, "Deployment", "DaemonSet", "RayService")}
    assert used <= denied
