"""A local copy of the objects of one kind, kept true by list and watch. Level-triggered: a new list gives the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from cluster.kubernetes.api import EVERYTHING, Api, Object, Selection
from cluster.kubernetes.kinds import Kind
from cluster.kubernetes.refusals import Absent, ApiRefusal, Expired
from cluster.ports import Clock

Projection = Callable[[Object], Object]
"""Keeps of an object what is needed: memory is bounded by it."""
Key = tuple[str, str]


def whole(obj: Object) -> Object:
    """Keep the object as it is, without the record of who wrote which field."""
    meta = {name: value for name, value in obj.get("metadata", {}).items() if name != "managedFields"}
    return {**obj, "metadata": meta}


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorLimits:
    """How a mirror keeps itself true."""

    watch_s: int = 240
    """Longest single watch; it goes on from where it was."""
    resync_ms: int = 600_000
    """Longest time between two full lists."""
    first_wait_ms: int = 200
    longest_wait_ms: int = 30_000


class Copy:
    """The objects and the rules of how events change them. Duplicates and late events have no effect."""

    def __init__(self, keep: Projection = whole) -> None:
        self._keep = keep
        self._objects: dict[Key, Object] = {}
        self._seen: dict[Key, int] = {}
        self.version = ""

    def objects(self) -> tuple[Object, ...]:
        """Return the objects, sorted by namespace and name."""
        return tuple(obj for _, obj in sorted(self._objects.items()))

    def replace(self, found: list[Object], version: str) -> None:
        """Make the copy what a list returned."""
        self._objects = {_key(obj): self._keep(obj) for obj in found}
        self._seen = {_key(obj): _number(obj) for obj in found}
        self.version = version

    def change(self, event: Object) -> bool:
        """Take an event in. Returns whether it changed anything."""
        obj = event["object"]
        if event["type"] == "BOOKMARK":
            self.version = str(obj["metadata"]["resourceVersion"])
            return False
        key, number = _key(obj), _number(obj)
        if number <= self._seen.get(key, -1):
            return False
        self._seen[key] = number
        self.version = str(obj["metadata"]["resourceVersion"])
        if event["type"] == "DELETED":
            return self._objects.pop(key, None) is not None
        self._objects[key] = self._keep(obj)
        return True


class Mirror:
    """Runs list and watch for one kind in a thread of its own."""

    def __init__(
        self,
        api: Api,
        clock: Clock,
        kind: Kind,
        selection: Selection = EVERYTHING,
        keep: Projection = whole,
        limits: MirrorLimits | None = None,
    ) -> None:
        self.kind = kind
        self._api, self._clock, self._selection = api, clock, selection
        self._limits = limits or MirrorLimits()
        self._copy = Copy(keep)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mirror-{kind.plural}", daemon=True)
        self._listed_ms: int | None = None
        self._wait_ms = self._limits.first_wait_ms
        self.contact_ms: int | None = None
        """Wall time of the last word from the server; None before the first full list."""
        self.trouble = "not_listed_yet"
        """Code of what is wrong with the connection; empty while it is well."""
        self.on_change: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon, without waiting: the thread is a daemon and holds nothing."""
        self._stopping.set()

    def objects(self) -> tuple[Object, ...]:
        """Return the objects as last seen, sorted by namespace and name; empty before the first list."""
        with self._lock:
            return self._copy.objects()

    def served(self) -> bool:
        """Return whether the server knows this kind at all."""
        return self.trouble != Absent.code

    def turn(self) -> None:
        """Do one list if one is due, then one watch to its end; after a refusal, back off."""
        try:
            if self._is_list_due():
                self._list()
            self._watch()
            self._wait_ms = self._limits.first_wait_ms
        except Expired:
            self._listed_ms = None
            self._stopping.wait(self._limits.first_wait_ms / 1000)
        except ApiRefusal as refused:
            self.trouble = refused.code
            if isinstance(refused, Absent):
                self._listed_ms = None
            asked = (refused.retry_after_s or 0) * 1000
            self._stopping.wait(max(self._wait_ms, min(asked, self._limits.longest_wait_ms)) / 1000)
            self._wait_ms = min(self._wait_ms * 2, self._limits.longest_wait_ms)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.turn()

    def _is_list_due(self) -> bool:
        return self._listed_ms is None or self._clock.monotonic_ms() - self._listed_ms >= self._limits.resync_ms

    def _list(self) -> None:
        found, version = self._api.list_all(self.kind, self._selection)
        with self._lock:
            self._copy.replace(found, version)
        self._listed_ms = self._clock.monotonic_ms()
        self._heard()
        self.on_change()

    def _watch(self) -> None:
        for event in self._api.watch(self.kind, self._selection, self._copy.version, self._limits.watch_s):
            with self._lock:
                changed = self._copy.change(event)
            self._heard()
            if changed:
                self.on_change()
            if self._stopping.is_set():
                return
        self._heard()

    def _heard(self) -> None:
        self.contact_ms = self._clock.now_ms()
        self.trouble = ""


def _key(obj: Object) -> Key:
    meta = obj["metadata"]
    return str(meta.get("namespace", "")), str(meta["name"])


def _number(obj: Object) -> int:
    """Versions are decimal numbers that grow with each write: Kubernetes promises it since 1.35, etcd always did."""
    text = str(obj["metadata"]["resourceVersion"])
    return int(text)
