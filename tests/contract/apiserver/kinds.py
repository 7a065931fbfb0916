"""The resources that the fake serves, and what a custom resource definition adds to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Resource:
    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = False
    short: tuple[str, ...] = ()
    schema: dict[str, Any] | None = field(default=None, hash=False, compare=False)
    columns: tuple[dict[str, Any], ...] = field(default=(), hash=False, compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """All versions of a resource share one storage."""
        return (self.group, self.plural)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def custom(self) -> bool:
        return self.schema is not None


def _r(group: str, version: str, plural: str, kind: str, flags: str = "n") -> Resource:
    return Resource(group, version, plural, kind, "n" in flags, "s" in flags)


BUILT_IN: tuple[Resource, ...] = (
    _r("", "v1", "namespaces", "Namespace", "s"),
    _r("", "v1", "nodes", "Node", "s"),
    _r("", "v1", "pods", "Pod", "ns"),
    _r("", "v1", "configmaps", "ConfigMap"),
    _r("", "v1", "secrets", "Secret"),
    _r("", "v1", "services", "Service", "ns"),
    _r("", "v1", "serviceaccounts", "ServiceAccount"),
    _r("", "v1", "events", "Event"),
    _r("", "v1", "resourcequotas", "ResourceQuota", "ns"),
    _r("apps", "v1", "deployments", "Deployment", "ns"),
    _r("apps", "v1", "daemonsets", "DaemonSet", "ns"),
    _r("coordination.k8s.io", "v1", "leases", "Lease"),
    _r("events.k8s.io", "v1", "events", "Event"),
    _r("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    _r("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", "ns"),
    _r("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    _r("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    _r("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", ""),
    _r("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", ""),
    _r("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", ""),
    _r("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "s"),
    _r(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        "",
    ),
    _r("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", "s"),
)


def resources_of_crd(crd: dict[str, Any]) -> list[Resource]:
    """Return one resource per served version of the definition."""
    spec = crd["spec"]
    names = spec["names"]
    return [
        Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            status="status" in (version.get("subresources") or {}),
            short=tuple(names.get("shortNames", ())),
            schema=(version.get("schema") or {}).get("openAPIV3Schema") or {},
            columns=tuple(version.get("additionalPrinterColumns", ())),
        )
        for version in spec["versions"]
        if version.get("served")
    ]
