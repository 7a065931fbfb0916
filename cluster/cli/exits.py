"""Exit statuses, each with one meaning, and how an error becomes one."""

from __future__ import annotations

from enum import IntEnum
from http import HTTPStatus


class Exit(IntEnum):
    """What the shell is told."""

    OK = 0
    ERROR = 1
    """Something failed; for `diff`: there are differences."""
    USAGE = 2
    """The command line does not make sense; for `plan`: changes are due."""
    NOT_FOUND = 3
    FORBIDDEN = 4
    """No valid token, or not allowed."""
    CONFLICT = 5
    """Changed meanwhile."""
    TIMEOUT = 6
    """What was waited for did not come in time."""
    UNAVAILABLE = 7
    """No control plane answers, or it is not ready."""
    DENIED = 8
    """The policy does not allow it."""


BY_STATUS: dict[int, Exit] = {
    HTTPStatus.UNAUTHORIZED: Exit.FORBIDDEN,
    HTTPStatus.FORBIDDEN: Exit.FORBIDDEN,
    HTTPStatus.NOT_FOUND: Exit.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: Exit.TIMEOUT,
    HTTPStatus.CONFLICT: Exit.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED: Exit.CONFLICT,
    HTTPStatus.PRECONDITION_REQUIRED: Exit.CONFLICT,
    HTTPStatus.UNPROCESSABLE_ENTITY: Exit.DENIED,
    HTTPStatus.TOO_MANY_REQUESTS: Exit.UNAVAILABLE,
    HTTPStatus.SERVICE_UNAVAILABLE: Exit.UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE: Exit.UNAVAILABLE,
}
"""Statuses of the API; others are ERROR."""


def exit_of(error: Exception) -> Exit:
    """Return the exit status of an error that ended a command."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return BY_STATUS.get(status, Exit.ERROR)
    code = getattr(error, "code", "")
    return {"unreachable": Exit.UNAVAILABLE, "not_found": Exit.NOT_FOUND, "timeout": Exit.TIMEOUT}.get(code, Exit.ERROR)
