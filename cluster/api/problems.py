"""RFC 9457 problems with stable codes: every refusal and every malformed request ends here, never in a stack trace."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from cluster.refusals import Refusal
from policies.documents.errors import PolicyError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2

STATUS_OF: dict[str, int] = {
    "refused": 400,
    "malformed": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "request_timeout": 408,
    "conflict": 412,
    "in_progress": 409,
    "approval_refused": 409,
    "limit_reached": 409,
    "canary_exists": 409,
    "canary_not_running": 409,
    "expired_cursor": 410,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "invalid": 422,
    "idempotency_key_reused": 422,
    "precondition_required": 428,
    "too_many_requests": 429,
    "internal": 500,
    "no_policy": 503,
    "not_ready": 503,
    "journal_busy": 503,
    "journal_corrupt": 503,
    "record_unreadable": 503,
    "stale_generation": 503,
    "schema_too_new": 503,
    "device_held": 409,
    "device_not_clean": 409,
    "journal_full": 507,
}
"""Every code that the API answers with, and its HTTP status."""

TITLES: dict[str, str] = {
    "unauthenticated": "No valid token was given",
    "forbidden": "The token does not allow this",
    "not_found": "There is no such object",
    "conflict": "The object was changed meanwhile",
    "precondition_required": "The change does not say what it was made from",
    "invalid": "The request does not make sense",
    "malformed": "The request could not be read",
    "too_many_requests": "Too many requests",
    "internal": "Something failed inside",
}
"""Headlines of the common codes; others use the code itself."""


class ApiRefusal(Refusal):
    """A request that the API does not carry out; the code says which kind."""

    def __init__(self, code: str, detail: str, **more: Any) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail, self.more = detail, more

    def __str__(self) -> str:
        return self.detail


def problem(
    request: Request, code: str, detail: str, *, errors: Sequence[dict[str, str]] = (), **more: Any
) -> JSONResponse:
    """Return the response for a code: a short title, the whole sentence, and where to read on."""
    status = STATUS_OF.get(code, 400)
    body: dict[str, Any] = {
        "type": f"/docs/problems#{code}",
        "title": TITLES.get(code, code.replace("_", " ").capitalize()),
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        "code": code,
        "request_id": request.scope.get("request_id", ""),
        **more,
    }
    if errors:
        body["errors"] = list(errors)
    headers = {"Retry-After": str(more.get("retry_after", RETRY_AFTER_S))} if status in {429, 503} else {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="partage"'
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Turn every way to fail into a problem."""

    @app.exception_handler(Refusal)
    def refused(request: Request, error: Refusal) -> JSONResponse:
        return problem(request, error.code, str(error), **getattr(error, "more", {}))

    @app.exception_handler(PolicyError)
    def policy_refused(request: Request, error: PolicyError) -> JSONResponse:
        return problem(request, "invalid", str(error), errors=[{"code": error.code, "detail": str(error)}])

    @app.exception_handler(RequestValidationError)
    def invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(request, "invalid", _first(error.errors()), errors=faults(error.errors()))

    @app.exception_handler(ValidationError)
    def invalid_value(request: Request, error: ValidationError) -> JSONResponse:
        found = error.errors(include_input=False, include_context=False)
        return problem(request, "invalid", _first(found), errors=faults(found))

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}.get(error.status_code, "refused")
        return problem(request, code, str(error.detail))

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> JSONResponse:
        log.error("request %s failed", request.scope.get("request_id", ""), exc_info=error)
        return problem(request, "internal", "the request failed; the log holds the cause under this request_id")


def faults(found: Sequence[Any]) -> list[dict[str, str]]:
    """Return one entry per fault: where, and what is wrong; never the offending value itself."""
    return [
        {"pointer": "/" + "/".join(str(part) for part in fault["loc"]), "detail": str(fault["msg"])}
        for fault in found[:50]
    ]


def _first(found: Sequence[Any]) -> str:
    first = faults(found[:1])
    return f"{first[0]['pointer']}: {first[0]['detail']}" if first else "the request does not make sense"
