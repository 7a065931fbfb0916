"""Objects, their versions and their history: optimistic concurrency, one counter for everything."""

from __future__ import annotations

import copy
import datetime as dt
import json
import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import ownership, rules, schema
from .errors import Refused, already_exists, bad_request, conflict, gone, invalid, not_found
from .kinds import BUILT_IN, Resource, resources_of_crd
from .selection import check_fields, matches_fields, matches_labels

Obj = dict[str, Any]
Writer = ownership.Writer
"""Manager, operation, apiVersion, time."""


@dataclass(frozen=True)
class Event:
    rv: int
    type: str
    key: tuple[str, str]
    obj: Obj
    previous: Obj | None


@dataclass(frozen=True)
class Query:
    namespace: str | None = None
    labels: str = ""
    fields: str = ""

    def selects(self, plural: str, obj: Obj) -> bool:
        meta = obj["metadata"]
        return (
            (self.namespace is None or meta.get("namespace") == self.namespace)
            and matches_labels(meta.get("labels") or {}, self.labels)
            and matches_fields(plural, obj, self.fields)
        )


@dataclass(frozen=True)
class Write:
    """How a write was asked for."""

    manager: str = "unknown"
    subresource: str = ""
    strict: bool = False
    dry_run: bool = False


class Store:
    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.resources: dict[tuple[str, str, str], Resource] = {(r.group, r.version, r.plural): r for r in BUILT_IN}
        self._objects: dict[tuple[str, str], dict[tuple[str, str], Obj]] = {}
        self._history: deque[Event] = deque(maxlen=100_000)
        self._rv = 1
        self.compacted = 0
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.create(self.resources["", "v1", "namespaces"], None, namespace, Write())

    @property
    def rv(self) -> int:
        return self._rv

    def compact(self) -> None:
        """Forget the history: watches from an older version get 410, as after etcd's compaction."""
        with self.changed:
            self._history.clear()
            self.compacted = self._rv
            self.changed.notify_all()

    def get(self, resource: Resource, namespace: str | None, name: str) -> Obj:
        with self.changed:
            found = self._objects.get(resource.key, {}).get((namespace or "", name))
            if found is None:
                raise not_found(_plural(resource), name)
            return self._as(resource, found)

    def list(self, resource: Resource, query: Query) -> tuple[list[Obj], int]:
        check_fields(resource.plural, query.fields)
        with self.changed:
            chosen = [
                self._as(resource, obj)
                for _, obj in sorted(self._objects.get(resource.key, {}).items())
                if query.selects(resource.plural, obj)
            ]
            return chosen, self._rv

    def create(self, resource: Resource, namespace: str | None, obj: Obj, write: Write) -> Obj:
        with self.changed:
            new = copy.deepcopy(obj)
            meta = new.setdefault("metadata", {})
            if meta.get("resourceVersion"):
                raise bad_request("resourceVersion should not be set on objects to be created")
            if not meta.get("name") and meta.get("generateName"):
                meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
            if not meta.get("name"):
                raise invalid(resource.kind, "", ["metadata.name: Required value: name or generateName is required"])
            self._check_place(resource, namespace, meta)
            if resource.status and resource.kind != "Node":
                new.pop("status", None)
            if resource.custom:
                new = schema.admit(resource, new, None, write.strict)
            if resource.kind == "CustomResourceDefinition":
                schema.check_definition(meta["name"], new)
            rules.on_create(resource.kind, new)
            rules.check_metadata(resource.kind, new)
            meta = new["metadata"]
            meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
            for name in ("deletionTimestamp", "deletionGracePeriodSeconds"):
                meta.pop(name, None)
            if "managedFields" not in meta:
                meta["managedFields"] = ownership.record_update({}, new, resource.schema, self._writer(resource, write))
            return self._commit(resource, "ADDED", new, None, write)

    def _check_place(self, resource: Resource, namespace: str | None, meta: Obj) -> None:
        if resource.namespaced:
            if meta.setdefault("namespace", namespace) != namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            if ("", namespace or "") not in self._objects.get(("", "namespaces"), {}):
                raise not_found("namespaces", namespace or "")
        else:
            meta.pop("namespace", None)
        if (namespace or "", meta["name"]) in self._objects.get(resource.key, {}):
            raise already_exists(_plural(resource), meta["name"])

    def update(
        self, resource: Resource, namespace: str | None, name: str, change: Callable[[Obj], Obj], write: Write
    ) -> Obj:
        """Replace the object by what ``change`` makes of it; a stale resourceVersion in the result is refused."""
        with self.changed:
            old = self.get(resource, namespace, name)
            new = change(copy.deepcopy(old))
            return self._put(resource, old, new, write, None)

    def _put(self, resource: Resource, old: Obj, new: Obj, write: Write, managed: list[Obj] | None) -> Obj:
        _check_identity(resource, old["metadata"], new.setdefault("metadata", {}))
        new = _isolate(resource, old, new, write.subresource)
        if resource.custom:
            new = schema.admit(resource, new, old, write.strict)
        if write.subresource != "binding":
            rules.on_update(resource.kind, old, new)
        rules.check_metadata(resource.kind, new)
        rules.check_finalizers(resource.kind, old["metadata"], new["metadata"])
        if _spec(new) != _spec(old) and not write.subresource:
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if managed is None:
            managed = ownership.record_update(old, new, resource.schema, self._writer(resource, write))
        new["metadata"]["managedFields"] = managed
        if _same(old, new):
            return old
        gone_now = new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers")
        if gone_now and not (resource.kind == "Pod" and new["metadata"].get("deletionGracePeriodSeconds")):
            return self._commit(resource, "DELETED", new, old, write)
        return self._commit(resource, "MODIFIED", new, old, write)

    def apply(
        self, resource: Resource, namespace: str | None, applied: Obj, write: Write, *, force: bool
    ) -> tuple[Obj, bool]:
        """Server-side apply. Returns the object and whether it was created."""
        with self.changed:
            meta = applied.setdefault("metadata", {})
            if meta.get("managedFields"):
                raise bad_request("metadata.managedFields must be nil")
            writer = self._writer(resource, write, operation="Apply")
            paths = ownership.fields(applied, resource.schema)
            try:
                old = self.get(resource, namespace, meta["name"])
            except Refused:
                if meta.get("resourceVersion"):
                    raise conflict(_plural(resource), meta["name"]) from None
                if write.subresource:
                    raise
                new = copy.deepcopy(applied)
                new["metadata"]["managedFields"] = ownership.record_apply([], writer, set(paths), {})
                return self.create(resource, namespace, new, write), True
            entries = old["metadata"].get("managedFields", [])
            taken = ownership.conflicts(entries, writer, paths, ownership.fields(old, resource.schema))
            if taken and not force:
                raise ownership.refuse(taken)
            new = ownership.merge(old, applied, resource.schema)
            mine = ownership.owned_by(entries, writer)
            others = set().union(
                *(ownership.from_v1(e["fieldsV1"]) for e in entries if not ownership.is_of(e, writer)), set()
            )
            for path in sorted(mine - set(paths) - others, key=len, reverse=True):
                ownership.remove(new, path)
            if "resourceVersion" in meta:
                new["metadata"]["resourceVersion"] = meta["resourceVersion"]
            managed = ownership.record_apply(entries, writer, set(paths), taken)
            return self._put(resource, old, new, write, managed), False

    def delete(self, resource: Resource, namespace: str | None, name: str, options: Obj) -> Obj:
        with self.changed:
            old = self.get(resource, namespace, name)
            wanted = options.get("preconditions") or {}
            if wanted.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
                raise conflict(_plural(resource), name)
            if wanted.get("resourceVersion", old["metadata"]["resourceVersion"]) != old["metadata"]["resourceVersion"]:
                raise conflict(_plural(resource), name)
            new = copy.deepcopy(old)
            write = Write(dry_run=bool(options.get("dryRun")))
            grace = _grace(resource, old, options)
            if not old["metadata"].get("finalizers") and not grace:
                return self._commit(resource, "DELETED", new, old, write)
            if old["metadata"].get("deletionTimestamp") and grace:
                return old
            new["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": grace}
            return self._commit(resource, "MODIFIED", new, old, write)

    def _commit(self, resource: Resource, kind: str, new: Obj, old: Obj | None, write: Write) -> Obj:
        if write.dry_run:
            return new
        self._rv += 1
        new["metadata"]["resourceVersion"] = str(self._rv)
        key = (new["metadata"].get("namespace", "") if resource.namespaced else "", new["metadata"]["name"])
        shelf = self._objects.setdefault(resource.key, {})
        if kind == "DELETED":
            shelf.pop(key, None)
        else:
            shelf[key] = json.loads(json.dumps(new))
        self._history.append(Event(self._rv, kind, resource.key, json.loads(json.dumps(new)), old))
        if resource.kind == "CustomResourceDefinition":
            self._define(kind, new)
        self.changed.notify_all()
        return copy.deepcopy(new)

    def _define(self, kind: str, crd: Obj) -> None:
        for resource in resources_of_crd(crd):
            where = (resource.group, resource.version, resource.plural)
            if kind == "DELETED":
                self.resources.pop(where, None)
                self._objects.pop(resource.key, None)
            else:
                self.resources[where] = resource
        if kind == "ADDED":
            names = crd["spec"]["names"]
            conditions = [
                {"type": name, "status": "True", "reason": "NoConflicts", "message": "", "lastTransitionTime": now()}
                for name in ("NamesAccepted", "Established")
            ]
            stored = self._objects[("apiextensions.k8s.io", "customresourcedefinitions")]["", crd["metadata"]["name"]]
            stored["status"] = {"conditions": conditions, "acceptedNames": names, "storedVersions": []}
            crd["status"] = stored["status"]

    def events(self, resource: Resource, query: Query, since: int) -> tuple[list[tuple[str, Obj]], int]:
        """Return what happened after the version, oldest first, and the newest version. Raises 410 when forgotten."""
        if since < self.compacted:
            raise gone(f"too old resource version: {since} ({self.compacted})")
        found = []
        for event in self._history:
            if event.rv <= since or event.key != resource.key:
                continue
            is_in = event.type != "DELETED" and query.selects(resource.plural, event.obj)
            was_in = event.previous is not None and query.selects(resource.plural, event.previous)
            kind = {(True, True): "MODIFIED", (True, False): "ADDED", (False, True): "DELETED"}.get((is_in, was_in))
            if kind:
                found.append((kind, self._as(resource, event.obj)))
        return found, self._rv

    def _as(self, resource: Resource, obj: Obj) -> Obj:
        """Return the object in this version's words. What is stored is never changed in place, so it is not copied."""
        return {**obj, "apiVersion": resource.api_version, "kind": resource.kind}

    def _writer(self, resource: Resource, write: Write, operation: str = "Update") -> Writer:
        return (write.manager, operation, resource.api_version, now(), write.subresource)


FIXED = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
)


def _check_identity(resource: Resource, before: Obj, meta: Obj) -> None:
    """Refuse another name and stale versions; keep what no writer sets."""
    if meta.get("name", before["name"]) != before["name"]:
        raise bad_request("the name of the object does not match the name on the URL")
    if meta.get("uid", before["uid"]) != before["uid"]:
        raise conflict(_plural(resource), before["name"])
    if meta.get("resourceVersion") not in {None, "", before["resourceVersion"]}:
        raise conflict(_plural(resource), before["name"])
    for fixed in FIXED:
        meta.pop(fixed, None)
        if fixed in before:
            meta[fixed] = before[fixed]


def now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251 - a server has a clock


def _plural(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _spec(obj: Obj) -> Obj:
    return {key: value for key, value in obj.items() if key not in {"metadata", "status", "apiVersion", "kind"}}


def _same(old: Obj, new: Obj) -> bool:
    def bare(obj: Obj) -> Obj:
        meta = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
        owned = [{k: v for k, v in e.items() if k != "time"} for e in obj["metadata"].get("managedFields", [])]
        return {**obj, "metadata": {**meta, "managedFields": owned}}

    return bare(old) == bare(new)


def _isolate(resource: Resource, old: Obj, new: Obj, subresource: str) -> Obj:
    """Spec and status are written through their own doors only."""
    if subresource == "status":
        meta = {**old["metadata"], "resourceVersion": new["metadata"]["resourceVersion"]}
        kept = {key: value for key, value in old.items() if key != "status"}
        kept["metadata"] = meta
        return {**kept, **({"status": new["status"]} if "status" in new else {})}
    if resource.status:
        new = {key: value for key, value in new.items() if key != "status"}
        return {**new, **({"status": old["status"]} if "status" in old else {})}
    return new


def _grace(resource: Resource, obj: Obj, options: Obj) -> int:
    if resource.kind != "Pod" or not obj["spec"].get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
        return 0
    asked = options.get("gracePeriodSeconds")
    return int(obj["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)
