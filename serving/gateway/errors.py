"""What a tenant is told when a request is not answered, in the shape that OpenAI's clients expect."""

from __future__ import annotations

import json


class ApiError(Exception):
    """Root of the errors that leave the gateway. ``status``, ``kind`` and ``code`` are stable."""

    status = 500
    kind = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def ledger_code(self) -> str:
        """What the ledger and the metrics call it: the code, or finer where operators must tell causes apart."""
        return self.code or self.kind

    def document(self) -> bytes:
        """Return the body of the response."""
        about = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"error": about}).encode()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that go with it: ``Retry-After`` in seconds where waiting helps."""
        return [] if self.retry_after_s is None else [(b"retry-after", str(self.retry_after_s).encode())]


class WrongKey(ApiError):
    """The key is missing, unknown, expired, or belongs to another domain; which of them is not told."""

    status = 401
    kind = "invalid_request_error"
    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__("Incorrect API key provided. Ask the owner of your tenant for a key of this gateway.")


class Forbidden(ApiError):
    """The key is good but does not allow this."""

    status = 403
    kind = "invalid_request_error"
    code = "insufficient_permissions"


class ModelNotFound(ApiError):
    """No such model, or not for this tenant: the two are not told apart."""

    status = 404
    kind = "invalid_request_error"
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model `{model}` does not exist or you do not have access to it. See GET /v1/models.", param="model"
        )


class NoSuchPath(ApiError):
    """The gateway has no such endpoint, or no such object."""

    status = 404
    kind = "invalid_request_error"
    code = "unknown_url"


class BadRequest(ApiError):
    """The request cannot be answered as it stands."""

    status = 400
    kind = "invalid_request_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param=param)
        self.code = code


class WrongMethod(ApiError):
    """The endpoint is there, for another method."""

    status = 405
    kind = "invalid_request_error"
    code = "method_not_allowed"


class BodyTooLarge(ApiError):
    """The request is larger than the gateway takes in."""

    status = 413
    kind = "invalid_request_error"
    code = "request_too_large"


class RateLimited(ApiError):
    """The tenant's own rate is used up; others do not matter."""

    status = 429
    kind = "requests"
    code = "rate_limit_exceeded"


class BudgetSpent(ApiError):
    """The tenant's tokens for the day or the month are used up."""

    status = 429
    kind = "insufficient_quota"
    code = "insufficient_quota"

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the header by which OpenAI's clients know that asking again at once is no use."""
        return [*super().headers(), (b"x-should-retry", b"false")]


class Overloaded(ApiError):
    """The model has no free place within the time that the request may wait."""

    status = 503
    kind = "server_error"
    code = "server_is_overloaded"


class QueueFull(Overloaded):
    """Too many wait already, and others are more entitled to the room."""

    ledger_code = "queue_full"


class WaitedTooLong(Overloaded):
    """No place became free in time."""

    ledger_code = "deadline"


class EngineBroke(ApiError):
    """The engines that were tried failed."""

    status = 502
    kind = "server_error"
    code = "engine_failed"


class Refused(ApiError):
    """The engine says that the request is wrong."""

    kind = "invalid_request_error"

    def __init__(self, status: int, message: str, code: str | None, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.status, self.code = status, code
