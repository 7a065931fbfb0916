"""Requests to the API server through the official client's transport, with plain dictionaries in and out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random  # noqa: TID251 - only the type: the caller seeds it
from typing import Any

import kubernetes
import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from yaml import YAMLError

from cluster.kubernetes.kinds import MANAGER, Kind
from cluster.kubernetes.refusals import (
    Absent,
    ApiRefusal,
    KubeconfigUnreadable,
    OutsideCluster,
    Unavailable,
    refusal,
    unavailable,
)
from cluster.ports import Clock

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a request is tried."""

    attempts: int = 5
    first_wait_ms: int = 100
    longest_wait_ms: int = 10_000
    timeout_s: int = 10
    """Of one attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects of a kind."""

    namespace: str | None = None
    labels: str = ""
    fields: str = ""

    def parameters(self) -> dict[str, str]:
        """Return the query parameters."""
        named = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in named.items() if value}


EVERYTHING = Selection()
PAGE = 500
"""Objects per page of a list."""
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass
class Connection:
    """The official client, configured to leave retries to us."""

    client: Any
    patience: Patience = field(default_factory=Patience)

    @classmethod
    def to(cls, url: str, token: str | None = None, ca_file: str | None = None) -> Connection:
        """Return a connection to an address."""
        configuration = kubernetes.client.Configuration(host=url)
        configuration.retries = False
        if token:
            configuration.api_key["authorization"] = token
            configuration.api_key_prefix["authorization"] = "Bearer"
        configuration.ssl_ca_cert = ca_file
        return cls(kubernetes.client.ApiClient(configuration))

    @classmethod
    def from_inside(cls) -> Connection:
        """Return a connection as the pod's service account. Raises ``OutsideCluster`` where there is none."""
        configuration = kubernetes.client.Configuration()
        try:
            kubernetes.config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # theirs
        except ConfigException as error:
            raise OutsideCluster(str(error)) from error
        configuration.retries = False
        return cls(kubernetes.client.ApiClient(configuration))

    @classmethod
    def from_kubeconfig(cls, path: str | None = None, context: str | None = None) -> Connection:
        """Return a connection as a kubeconfig describes it. Raises ``KubeconfigUnreadable``."""
        configuration = kubernetes.client.Configuration()
        try:
            kubernetes.config.load_kube_config(  # type: ignore[no-untyped-call]  # theirs
                config_file=path, context=context, client_configuration=configuration
            )
        except (ConfigException, OSError, YAMLError) as error:
            raise KubeconfigUnreadable(path or "~/.kube/config", str(error)) from error
        configuration.retries = False
        return cls(kubernetes.client.ApiClient(configuration))

    def credentials(self) -> dict[str, Any]:
        """Return how the server is reached as of now, for a client that is not ours, in kopf's words."""
        found = self.client.configuration
        scheme, _, token = (found.get_api_key_with_prefix("BearerToken", alias="authorization") or "").partition(" ")
        return {
            "server": found.host,
            "token": token or scheme or None,
            "ca_path": found.ssl_ca_cert,
            "certificate_path": found.cert_file,
            "private_key_path": found.key_file,
        }


class Api:
    """Reads and writes objects. Raises ``ApiRefusal`` and nothing else."""

    def __init__(self, connection: Connection, clock: Clock, jitter: Random) -> None:
        self._client = connection.client
        self._patience = connection.patience
        self._clock = clock
        self._jitter = jitter

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Return the object. Raises ``Absent``."""
        return self._tried("GET", kind.path(namespace, name))

    def list_all(self, kind: Kind, selection: Selection = EVERYTHING) -> tuple[list[Object], str]:
        """Return the objects, page by page, and the version that they are of. Raises ``Expired`` between pages."""
        found: list[Object] = []
        query = {**selection.parameters(), "limit": str(PAGE)}
        while True:
            page = self._tried("GET", kind.path(selection.namespace), query)
            found += page.get("items") or []
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                return found, str(meta.get("resourceVersion", ""))
            query["continue"] = meta["continue"]

    def create(self, kind: Kind, namespace: str | None, obj: Object) -> Object:
        """Create the object. Raises ``Exists``. Not tried twice: the first try may have worked."""
        return self._once("POST", kind.path(namespace), {"fieldManager": MANAGER}, _typed(kind, obj))

    def replace(self, kind: Kind, namespace: str | None, name: str, obj: Object) -> Object:
        """Replace the object. Raises ``Stale`` if it is not the version that ``obj`` names."""
        return self._tried("PUT", kind.path(namespace, name), {"fieldManager": MANAGER}, _typed(kind, obj))

    def apply(self, kind: Kind, namespace: str | None, obj: Object, subresource: str = "") -> Object:
        """Server-side apply, forced: our fields are ours. Raises ``Stale`` if ``obj`` names another version."""
        path = kind.path(namespace, obj["metadata"]["name"], subresource)
        query = {"fieldManager": MANAGER, "force": "true"}
        return self._tried("PATCH", path, query, _typed(kind, obj), APPLY_PATCH)

    def patch(self, kind: Kind, namespace: str | None, name: str, patch: list[Object]) -> Object:
        """JSON patch, tried once. A test in it that fails raises ``Invalid``."""
        return self._once("PATCH", kind.path(namespace, name), {"fieldManager": MANAGER}, patch, JSON_PATCH)

    def merge(self, kind: Kind, namespace: str | None, name: str, patch: Object, subresource: str = "") -> Object:
        """Merge patch. Raises ``Stale`` if the patch names another version."""
        path = kind.path(namespace, name, subresource)
        return self._tried("PATCH", path, {"fieldManager": MANAGER}, patch, MERGE_PATCH)

    def delete(self, kind: Kind, namespace: str | None, name: str, uid: str | None = None) -> None:
        """Delete the object if it still is the one with this uid; absent already is fine."""
        options = {"preconditions": {"uid": uid}} if uid else {}
        try:
            self._tried("DELETE", kind.path(namespace, name), {}, {"propagationPolicy": "Background", **options})
        except ApiRefusal as refused:
            if not isinstance(refused, Absent):
                raise

    def watch(self, kind: Kind, selection: Selection, version: str, timeout_s: int) -> Iterator[Object]:
        """Yield events after the version until the server ends the watch. Raises ``Expired`` or ``Unavailable``."""
        query = {
            **selection.parameters(),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(timeout_s),
        }
        request = f"watch {kind.plural}"
        answer = self._send("GET", kind.path(selection.namespace), query, None, "", timeout_s + 5)
        try:
            if answer.status != HTTPStatus.OK:
                raise refusal(request, answer.status, answer.headers, answer.data)
            for line in _lines(answer):
                yield _event(request, line)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unavailable(request, f"{type(error).__name__}: {error}") from error
        finally:
            answer.close()
            answer.release_conn()

    def _tried(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None, content: str = ""
    ) -> Object:
        wait = self._patience.first_wait_ms
        for attempt in range(1, self._patience.attempts + 1):
            try:
                return self._once(method, path, query, body, content)
            except Unavailable as refused:
                if attempt == self._patience.attempts:
                    raise
                asked = (refused.retry_after_s or 0) * 1000
                self._clock.sleep_ms(
                    max(min(asked, self._patience.longest_wait_ms), self._jitter.randint(wait // 2, wait))
                )
                wait = min(wait * 2, self._patience.longest_wait_ms)
        raise AssertionError  # the loop returns or raises

    def _once(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None, content: str = ""
    ) -> Object:
        request = f"{method} {path}"
        answer = self._send(method, path, query or {}, body, content, self._patience.timeout_s)
        try:
            data = answer.data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unavailable(request, f"{type(error).__name__}: {error}") from error
        if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            raise refusal(request, answer.status, answer.headers, data)
        return _object(request, data)

    def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content: str, timeout_s: int
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json", "Content-Type": content or "application/json"}
        prepared = self._client.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, auth_settings=["BearerToken"]
        )
        _, url, headers, *_ = prepared
        data = None if body is None else json.dumps(body).encode()
        timeout = urllib3.Timeout(connect=self._patience.timeout_s, read=timeout_s)
        try:
            pool = self._client.rest_client.pool_manager
            sent: urllib3.BaseHTTPResponse = pool.request(
                method, url, body=data, headers=headers, preload_content=False, timeout=timeout, retries=False
            )
        except (urllib3.exceptions.HTTPError, OSError, ApiException) as error:
            raise unavailable(f"{method} {path}", f"{type(error).__name__}: {error}") from error
        return sent


def _typed(kind: Kind, obj: Object) -> Object:
    return {**obj, "apiVersion": kind.api_version, "kind": kind.name}


def _object(request: str, data: bytes) -> Object:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise unavailable(request, f"the answer is no JSON: {error}") from error
    if not isinstance(found, dict) or "kind" not in found:
        raise unavailable(request, "the answer is no Kubernetes object")
    if found["kind"] == "Status" and found.get("status") == "Failure":
        raise refusal(request, int(found.get("code") or 500), {}, data)
    return found


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    pending = b""
    for part in answer.stream(amt=None, decode_content=True):
        pending += part
        *complete, pending = pending.split(b"\n")
        yield from (line for line in complete if line.strip())


def _event(request: str, line: bytes) -> Object:
    try:
        event = json.loads(line)
        obj = event["object"]
        kind = event["type"]
    except (ValueError, KeyError, TypeError) as error:
        raise unavailable(request, f"an event is not understood: {error}") from error
    if kind == "ERROR":
        raise refusal(request, int(obj.get("code") or 500), {}, json.dumps(obj).encode())
    return {"type": kind, "object": obj}
