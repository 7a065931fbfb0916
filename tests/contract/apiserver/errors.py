"""Refusals, as the API server words them: a Status object with a code and a reason."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """The request is refused; becomes a Status object on the wire."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details or {}

    def status(self) -> dict[str, Any]:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def not_found(plural: str, name: str) -> Refused:
    return Refused(404, "NotFound", f'{plural} "{name}" not found', {"name": name, "kind": plural})


def conflict(plural: str, name: str) -> Refused:
    message = (
        f'Operation cannot be fulfilled on {plural} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return Refused(409, "Conflict", message, {"name": name, "kind": plural})


def already_exists(plural: str, name: str) -> Refused:
    return Refused(409, "AlreadyExists", f'{plural} "{name}" already exists', {"name": name, "kind": plural})


def invalid(kind: str, name: str, causes: list[str]) -> Refused:
    details = {"name": name, "kind": kind, "causes": [_cause(cause) for cause in causes]}
    return Refused(422, "Invalid", f'{kind} "{name}" is invalid: {"; ".join(causes)}', details)


def gone(message: str = "too old resource version") -> Refused:
    return Refused(410, "Expired", message)


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def _cause(text: str) -> dict[str, str]:
    field, _, message = text.partition(": ")
    return {"reason": "FieldValueInvalid", "field": field, "message": message}
