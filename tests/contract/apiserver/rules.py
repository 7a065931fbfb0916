"""What the server itself forbids or fills in for the kinds that the platform touches."""

from __future__ import annotations

import copy
import re
from typing import Any

from .errors import invalid

DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
LABEL_KEY = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
POD_DEFAULTS = {"restartPolicy": "Always", "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30}


def check_metadata(kind: str, obj: dict[str, Any]) -> None:
    meta = obj["metadata"]
    causes = []
    lax = kind in {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    if not lax and (len(meta["name"]) > 253 or not DNS_LABEL.match(meta["name"])):
        causes.append(f'metadata.name: Invalid value: "{meta["name"]}": a lowercase RFC 1123 subdomain')
    for key, value in (meta.get("labels") or {}).items():
        if not LABEL_KEY.match(key) or not isinstance(value, str) or not LABEL_VALUE.match(value):
            causes.append(f'metadata.labels: Invalid value: "{key}: {value}"')
    for key, value in (meta.get("annotations") or {}).items():
        if not isinstance(value, str) or not LABEL_KEY.match(key):
            causes.append(f'metadata.annotations: Invalid value: "{key}"')
    if sum(len(k) + len(v) for k, v in (meta.get("annotations") or {}).items()) > 262144:
        causes.append("metadata.annotations: Too long: may not be more than 262144 bytes")
    if causes:
        raise invalid(kind, meta["name"], causes)


def check_finalizers(kind: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse finalizers that come after the deletion began."""
    added = sorted(set(new.get("finalizers") or ()) - set(old.get("finalizers") or ()))
    if old.get("deletionTimestamp") and added:
        cause = (
            f"metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted: {added}"
        )
        raise invalid(kind, new["name"], [cause])


def on_create(kind: str, obj: dict[str, Any]) -> None:
    """Fill in what the server fills in."""
    if kind == "Pod":
        for name, value in POD_DEFAULTS.items():
            obj["spec"].setdefault(name, value)
        gated = bool(obj["spec"].get("schedulingGates"))
        obj["status"] = {"phase": "Pending"}
        if gated:
            obj["status"]["conditions"] = [
                {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "gated"}
            ]
            if obj["spec"].get("nodeName"):
                raise invalid(
                    kind, obj["metadata"]["name"], ["spec.nodeName: Forbidden: cannot be set until gates are removed"]
                )
    if kind == "Namespace":
        obj["status"] = {"phase": "Active"}
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]


def on_update(kind: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse changes of immutable fields."""
    if kind == "Pod":
        _check_pod(old, new)
    if kind == "Lease" and not isinstance(new.get("spec", {}).get("leaseTransitions", 0), int):
        raise invalid(kind, new["metadata"]["name"], ["spec.leaseTransitions: must be an integer"])


def _check_pod(old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = copy.deepcopy(old["spec"]), copy.deepcopy(new["spec"])
    name = new["metadata"]["name"]
    old_gates = [gate["name"] for gate in before.pop("schedulingGates", None) or []]
    new_gates = [gate["name"] for gate in after.pop("schedulingGates", None) or []]
    if set(new_gates) - set(old_gates):
        raise invalid("Pod", name, ["spec.schedulingGates: Forbidden: only deletion is allowed"])
    if old_gates:
        was, now = before.pop("nodeSelector", None) or {}, after.pop("nodeSelector", None) or {}
        if any(now.get(key) != value for key, value in was.items()):
            raise invalid("Pod", name, ["spec.nodeSelector: Invalid value: only additions are allowed"])
        before.pop("affinity", None), after.pop("affinity", None)
    for spec in (before, after):
        spec.pop("tolerations", None)
        spec.pop("activeDeadlineSeconds", None)
        spec.pop("terminationGracePeriodSeconds", None)
        for container in spec.get("containers", []) + spec.get("initContainers", []):
            container.pop("image", None)
    if before != after:
        raise invalid("Pod", name, ["spec: Forbidden: pod updates may not change fields other than a few"])
