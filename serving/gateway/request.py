"""What a client may ask: parsed once, checked against OpenAI's parameters, passed on as it came."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from serving.gateway import responses
from serving.gateway.errors import BadRequest

CHARACTERS_PER_TOKEN = 4
"""Rule of thumb for the cost of a prompt before it is counted."""
PREFIX_CHARACTERS = 512
ANSWER_GUESS = 256
"""Tokens of an answer whose length the client does not bound."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMMON = _names(
    "model stream stream_options temperature top_p n stop max_tokens presence_penalty frequency_penalty logit_bias "
    "seed user metadata store service_tier"
)
PARAMETERS = {
    "chat": _COMMON
    | _names(
        "messages max_completion_tokens tools tool_choice parallel_tool_calls functions function_call response_format "
        "logprobs top_logprobs reasoning_effort modalities prediction verbosity safety_identifier "
        "prompt_cache_key"
    ),
    "completions": _COMMON | _names("prompt suffix echo best_of logprobs response_format"),
    "embeddings": _names("model input encoding_format dimensions user"),
}
"""Accepted parameters by operation. Others are refused: engines know more, such as the slot of another tenant."""
RESPONSES = "/v1/responses"
"""Answered by the operation ``chat``, told in another way; not for batches."""
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
}
"""Operation of each endpoint that an engine speaks."""
_REQUIRED = {"chat": "messages", "completions": "prompt", "embeddings": "input"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A checked request."""

    operation: str
    model: str
    is_stream: bool
    cost: int
    """Tokens expected, prompt and answer."""
    raw: bytes
    """Body for the engine, unchanged."""
    body: dict[str, Any]

    def prefix(self) -> str:
        """Return what requests have in common that should meet the same cached prefix."""
        given = self.body.get("prompt_cache_key")
        if isinstance(given, str) and given:
            return given[:PREFIX_CHARACTERS]
        messages = self.body.get("messages")
        start = messages[:1] if isinstance(messages, list) else self.body.get("prompt", "")
        return str(start)[:PREFIX_CHARACTERS]


def parse(operation: str, raw: bytes) -> Request:
    """Return the request in the body. Raises ``BadRequest`` naming the parameter at fault."""
    return _checked(operation, _object(raw), raw)


def parse_response(raw: bytes) -> Request:
    """Return the chat request that the body of ``/v1/responses`` stands for. Raises ``BadRequest``."""
    body = _object(raw)
    _require_known(body, responses.PARAMETERS)
    chat = responses.as_chat(body)
    return _checked("chat", chat, json.dumps(chat).encode())


def _require_known(body: dict[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(body.keys() - known)
    if unknown:
        raise BadRequest(f"Unrecognized request argument supplied: {unknown[0]}", param=unknown[0])


def _checked(operation: str, body: dict[str, Any], raw: bytes) -> Request:
    _require_known(body, PARAMETERS[operation])
    required = _REQUIRED[operation]
    if not body.get(required):
        raise BadRequest(f"Missing required parameter: '{required}'.", param=required)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter", param="model")
    return Request(
        operation=operation,
        model=model,
        is_stream=body.get("stream") is True,
        cost=len(raw) // CHARACTERS_PER_TOKEN + _answer_tokens(operation, body),
        raw=raw,
        body=body,
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadRequest("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body of your request must be a JSON object.")
    return body


def _answer_tokens(operation: str, body: dict[str, Any]) -> int:
    if operation == "embeddings":
        return 0
    for name in ("max_completion_tokens", "max_tokens", "n"):
        bound = body.get(name)
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int) or bound < 1):
            raise BadRequest(f"Invalid '{name}': expected a positive integer.", param=name)
    each = body.get("max_completion_tokens") or body.get("max_tokens") or ANSWER_GUESS
    return int(each) * int(body.get("n") or 1)
