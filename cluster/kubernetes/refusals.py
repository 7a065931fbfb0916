"""What the API server answers when it does not do as asked, one class for each thing that is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from cluster.refusals import Refusal

LONGEST_QUOTE = 300


class OutsideCluster(Refusal):
    """The process is in no pod with a service account."""

    code = "outside_cluster"

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause

    def __str__(self) -> str:
        return (
            f"the Kubernetes API server cannot be reached as a pod's service account: {self.cause.rstrip('.')}; "
            "run this in a pod of the chart, or set PARTAGE_KUBECONFIG to a kubeconfig"
        )


class KubeconfigUnreadable(Refusal):
    """The kubeconfig that was named does not say how to reach a cluster."""

    code = "kubeconfig_unreadable"

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return (
            f"the kubeconfig {self.path} cannot be used: {self.cause.rstrip('.')}; "
            "set PARTAGE_KUBECONFIG to one that `kubectl --kubeconfig` takes"
        )


class ApiRefusal(Exception):
    """The API server did not do as asked."""

    code = "kubernetes_refused"
    advice = "read the message; the request itself is at fault"

    def __init__(self, request: str, status: int, reason: str, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(request, status, reason, message)
        self.request, self.status, self.reason, self.message = request, status, reason, message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.request}: {self.status} {self.reason}: {self.message}; {self.advice}"


class Absent(ApiRefusal):
    """There is no such object, or no such kind."""

    code = "kubernetes_absent"
    advice = "check the name, and that the definitions of the chart are installed"


class Stale(ApiRefusal):
    """The object changed since it was read, or another manager owns a field."""

    code = "kubernetes_stale"
    advice = "read it again and decide again"


class Exists(ApiRefusal):
    """An object of that name exists."""

    code = "kubernetes_exists"
    advice = "read it, or choose another name"


class Expired(ApiRefusal):
    """The version asked for is forgotten: list again."""

    code = "kubernetes_expired"
    advice = "list again"


class Invalid(ApiRefusal):
    """The object breaks a rule of its kind."""

    code = "kubernetes_invalid"
    advice = "correct the named field"


class NotAllowed(ApiRefusal):
    """The service account lacks the right."""

    code = "kubernetes_forbidden"
    advice = "compare the chart's Role with what is granted"


class Unavailable(ApiRefusal):
    """The API server is down, overloaded or not understood: the same request may work later."""

    code = "kubernetes_unavailable"
    advice = "nothing was assumed; it is tried again"


_BY_STATUS: dict[int, type[ApiRefusal]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: Absent,
    409: Stale,
    410: Expired,
    422: Invalid,
    429: Unavailable,
}


def refusal(request: str, status: int, headers: Mapping[str, str], body: bytes) -> ApiRefusal:
    """Return what an answer that is no success means. Bodies that are no Status object are quoted, cut short."""
    said = _status_object(body)
    reason, message = str(said.get("reason") or "Unknown"), str(said.get("message") or _quote(body))
    kind = _BY_STATUS.get(status, Unavailable if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ApiRefusal)
    if reason == "AlreadyExists":
        kind = Exists
    wait = headers.get("Retry-After", "")
    return kind(request, status, reason, message, int(wait) if wait.isdigit() else None)


def unavailable(request: str, cause: str) -> Unavailable:
    """Return the refusal for an answer that never came or made no sense."""
    return Unavailable(request, 0, "NoAnswer", cause)


def _status_object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _quote(body: bytes) -> str:
    return repr(body[:LONGEST_QUOTE].decode("utf-8", "replace"))
