"""What a client may ask: parsed once, checked against OpenAI's parameters, passed on as it came."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from serving.gateway import checks, responses
from serving.gateway.errors import BadRequest

CHARACTERS_PER_TOKEN = 4
"""Rule of thumb for the cost of a prompt before it is counted."""
PREFIX_CHARACTERS = 512
ANSWER_GUESS = 256
"""Tokens of an answer whose length the client does not bound."""
ANSWER_MOST = 8_192
"""Tokens expected of an answer at most: clients that name a huge bound mean none."""
IMAGE_TOKENS = 1_024
"""Tokens expected of an image: one of 1024 by 1024 has 4096 patches, merged by four."""
CHARACTERS_PER_SOUND_TOKEN = 3_400
"""Of base64 for one token of 80 ms: 16 bits at 16 kHz. Compressed sound has more; it is settled later."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
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
TRANSCRIPTIONS = "transcriptions"
"""Operation of sounds that become texts."""
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
    checks.require(body, checks.OF_RESPONSES)
    chat = responses.as_chat(body)
    return _checked("chat", chat, json.dumps(chat).encode())


def _require_known(body: dict[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(body.keys() - known)
    if unknown:
        raise BadRequest(f"Unrecognized request argument supplied: {unknown[0]}", param=unknown[0])


def _checked(operation: str, body: dict[str, Any], raw: bytes) -> Request:
    _require_known(body, PARAMETERS[operation])
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter", param="model")
    checks.require(body, checks.CHECKS[operation])
    _require_given(body, _REQUIRED[operation])
    if body.get("stream_options") is not None and not body.get("stream"):
        said = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise BadRequest(said, param="stream_options")
    return Request(
        operation=operation,
        model=model,
        is_stream=body.get("stream") is True,
        cost=_prompt_cost(body, raw) + _answer_tokens(operation, body),
        raw=raw,
        body=body,
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw.decode(), parse_constant=_refuse_constant)
        if _SURROGATE.search(raw):
            json.dumps(
                body, ensure_ascii=False
            ).encode()  # halves of characters can be written in JSON, but not be read
    except (ValueError, RecursionError):
        raise BadRequest("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body of your request must be a JSON object.")
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and infinities are no JSON, though Python reads them


def _require_given(body: dict[str, Any], name: str) -> None:
    value = body.get(name)
    if value is None:
        said = f"Missing required parameter: '{name}'."
        raise BadRequest(said, param=name, code="missing_required_parameter")
    if not value:
        said = f"Invalid '{name}': it is empty. Expected at least one element."
        raise BadRequest(said, param=name, code="empty_array")


def _prompt_cost(body: dict[str, Any], raw: bytes) -> int:
    """Return the tokens that a prompt is expected to have; images and sounds count by what models make of them."""
    images, sounds = _media(body, "image_url", "url"), _media(body, "input_audio", "data")
    text = max(0, len(raw) - sum(images) - sum(sounds)) // CHARACTERS_PER_TOKEN
    return text + len(images) * IMAGE_TOKENS + sum(sounds) // CHARACTERS_PER_SOUND_TOKEN


def _media(body: dict[str, Any], kind: str, field: str) -> list[int]:
    """Return the characters of each image or sound in the messages, which were checked before."""
    contents = [message.get("content") for message in body.get("messages") or ()]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return [len(part[kind][field]) for part in parts if part["type"] == kind]


def _answer_tokens(operation: str, body: dict[str, Any]) -> int:
    if operation == "embeddings":
        return 0
    each = body.get("max_completion_tokens") or body.get("max_tokens") or ANSWER_GUESS
    return min(int(each), ANSWER_MOST) * int(body.get("n") or 1)
