"""What a client asks first: groups, versions, resources, and enough OpenAPI for kubectl."""

from __future__ import annotations

from typing import Any

from .kinds import Resource

ALL_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
Resources = dict[tuple[str, str, str], Resource]


def document(resources: Resources, path: str) -> dict[str, Any] | None:
    """Return the discovery document at the path, None if it is not one."""
    groups = sorted({(r.group, r.version) for r in resources.values() if r.group})
    names = sorted({group for group, _ in groups})
    gvs = [("", "v1"), *groups]
    documents: dict[str, Any] = {
        "/version": lambda: {"major": "1", "minor": "35", "gitVersion": "v1.35.0-fake", "platform": "linux/amd64"},
        "/api": lambda: {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": lambda: {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(g, groups) for g in names]},
        "/openapi/v2": lambda: {"swagger": "2.0", "info": {"title": "fake", "version": "1"}, "paths": {}},
        "/openapi/v3": lambda: {
            "paths": {_gv(*gv): {"serverRelativeURL": f"/openapi/v3/{_gv(*gv)}"} for gv in gvs},
        },
        **{f"/apis/{name}": lambda name=name: {"apiVersion": "v1", **_group(name, groups)} for name in names},
        **{f"/openapi/v3/{_gv(*gv)}": lambda gv=gv: _openapi(resources, _gv(*gv)) for gv in gvs},
        **{f"/{_gv(*gv)}": lambda gv=gv: _list(resources, *gv) for gv in gvs},
        **dict.fromkeys(("/healthz", "/readyz", "/livez"), lambda: {"status": "ok"}),
    }
    make = documents.get(path)
    return make() if make else None


def _gv(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _group(name: str, groups: list[tuple[str, str]]) -> dict[str, Any]:
    versions = [{"groupVersion": f"{name}/{v}", "version": v} for g, v in groups if g == name]
    return {"kind": "APIGroup", "name": name, "versions": versions, "preferredVersion": versions[0] if versions else {}}


def _list(resources: Resources, group: str, version: str) -> dict[str, Any]:
    found = []
    for resource in resources.values():
        if (resource.group, resource.version) != (group, version):
            continue
        base = {"namespaced": resource.namespaced, "kind": resource.kind}
        names = {"name": resource.plural, "singularName": resource.kind.lower(), "shortNames": list(resource.short)}
        found.append({**base, **names, "verbs": ALL_VERBS})
        if resource.status:
            verbs = ["get", "patch", "update"]
            found.append({**base, "name": f"{resource.plural}/status", "singularName": "", "verbs": verbs})
    gv = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": found}


def _openapi(resources: Resources, gv: str) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    parameters = [{"name": name, "in": "query"} for name in ("dryRun", "fieldManager", "fieldValidation", "force")]
    for resource in resources.values():
        if _gv(resource.group, resource.version) != gv:
            continue
        place = "/namespaces/{namespace}" if resource.namespaced else ""
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        paths[f"/{gv}{place}/{resource.plural}/{{name}}"] = {
            "patch": {
                "parameters": parameters,
                "responses": {},
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": kind,
            }
        }
    return {"openapi": "3.0.0", "info": {"title": "fake", "version": "1"}, "paths": paths}
