"""The domains' RayServices and RayClusters: whether they can be changed now, and if not, why."""

from __future__ import annotations

from typing import Any

from cluster.kubernetes.kinds import RAY_CLUSTER_LABEL, RAY_NODE_TYPE_LABEL
from cluster.observe.kubernetes.quantities import epoch_ms
from policies.model.snapshot import Gap, GapKind
from policies.model.units import SecurityDomain

Object = dict[str, Any]
NO_SERVICE = "rayservice_missing"
NO_CLUSTER = "raycluster_missing"
HEAD_DOWN = "ray_head_down"
SUSPENDED = "rayservice_suspended"
UPGRADING = "rayservice_upgrading"


def active_cluster(service: Object) -> str:
    """Return the name of the RayCluster that serves; empty if there is none."""
    active = (service.get("status") or {}).get("activeServiceStatus") or {}
    return str(active.get("rayClusterName") or "")


def gap(
    domain: SecurityDomain, service: Object | None, cluster: Object | None, heads: tuple[Object, ...]
) -> Gap | None:
    """Return why the domain's cluster is not to be changed now; None if it is well."""
    if service is None:
        return _gap(domain, NO_SERVICE, 0)
    if (service.get("spec") or {}).get("suspend"):
        return _gap(domain, SUSPENDED, 0)
    if cluster is None:
        return _gap(domain, NO_CLUSTER, 0)
    if _condition(service, "UpgradeInProgress").get("status") == "True":
        return _gap(domain, UPGRADING, _since(_condition(service, "UpgradeInProgress")))
    name = cluster["metadata"]["name"]
    own = [head for head in heads if _is_head_of(head, name)]
    if not any(_condition(head, "Ready").get("status") == "True" for head in own):
        return _gap(domain, HEAD_DOWN, max((_since(_condition(head, "Ready")) for head in own), default=0))
    return None


def _is_head_of(pod: Object, cluster: str) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return labels.get(RAY_NODE_TYPE_LABEL) == "head" and labels.get(RAY_CLUSTER_LABEL) == cluster


def _gap(domain: SecurityDomain, cause: str, since_ms: int) -> Gap:
    return Gap(kind=GapKind.CLUSTER, subject=domain, cause=cause, since_ms=since_ms)


def _since(condition: Object) -> int:
    return epoch_ms(str(condition.get("lastTransitionTime") or ""))


def _condition(obj: Object, name: str) -> Object:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition["type"] == name), {})
