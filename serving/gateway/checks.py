"""Types and ranges of what a client may ask, refused in OpenAI's words before a place or a token is spent on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from serving.gateway.errors import BadRequest

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
PARTS = ("text", "refusal", "image_url", "input_audio")
"""Kinds of a message's parts. Engines know more, some of which name files and addresses for them to read."""
FORMATS = ("text", "json_object", "json_schema")
CHOICES_MOST, LOGPROBS_MOST, STOPS_MOST = 128, 20, 16
HEAT_MOST, PENALTY_MOST = 2, 2
PROMPTS_MOST = 2_048
DATA = "data:"
"""Begin of an image inside the request. Others would have to be fetched, and no tenant may make an engine fetch."""

Check = Callable[[str, Any], None]
"""Takes the parameter's name and its value, which is not None. Raises ``BadRequest``."""

_KINDS = {bool: "boolean", int: "integer", float: "decimal", str: "string", list: "array", dict: "object"}


def require(body: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    """Return if every parameter that is not null passes. Raises ``BadRequest`` naming the first that does not."""
    for name, value in body.items():
        if value is not None and name in checks:
            checks[name](name, value)


def a(*kinds: type) -> Check:
    """Return the check for a value of one of these kinds."""

    def check(name: str, value: Any) -> None:
        if type(value) not in kinds:
            raise wrong_type(name, " or ".join(_KINDS[kind] for kind in kinds), value)

    return check


def whole(least: int | None = None, most: int | None = None) -> Check:
    """Return the check for an integer of this range."""

    def check(name: str, value: Any) -> None:
        if type(value) is not int:
            raise wrong_type(name, "an integer", value)
        _require_range(name, value, (least, most), "integer")

    return check


def decimal(least: float, most: float) -> Check:
    """Return the check for a number of this range."""

    def check(name: str, value: Any) -> None:
        if type(value) not in (int, float):
            raise wrong_type(name, "a decimal", value)
        if not math.isfinite(value):
            raise BadRequest(f"Invalid '{name}': expected a finite number.", param=name, code="invalid_value")
        _require_range(name, value, (least, most), "decimal")

    return check


def one_of(*allowed: str) -> Check:
    """Return the check for one of these texts."""

    def check(name: str, value: Any) -> None:
        if value not in allowed:
            raise _wrong_value(name, value, allowed)

    return check


def texts(name: str, value: Any) -> None:
    """Return if the value is a text or an array of them, as ``stop`` is."""
    given = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in given):
        raise wrong_type(name, "a string or an array of strings", value)
    if len(given) > STOPS_MOST:
        raise _too_long(name, STOPS_MOST, len(given))


def prompt(name: str, value: Any) -> None:
    """Return if the value is a text, tokens, or an array of either."""
    given = value if isinstance(value, list) and not all(type(each) is int for each in value) else [value]
    if len(given) > PROMPTS_MOST:
        raise _too_long(name, PROMPTS_MOST, len(given))
    for each in given:
        tokens = isinstance(each, list) and each and all(type(token) is int and token >= 0 for token in each)
        if not tokens and not (isinstance(each, str) and each):
            raise BadRequest(
                f"Invalid '{name}': expected a text that is not empty, tokens, or an array of either.",
                param=name,
                code="invalid_value",
            )


def objects(name: str, value: Any) -> None:
    """Return if the value is an array of objects."""
    a(list)(name, value)
    for number, each in enumerate(value):
        a(dict)(f"{name}[{number}]", each)


def response_format(name: str, value: Any) -> None:
    """Return if the value names a format."""
    a(dict)(name, value)
    one_of(*FORMATS)(f"{name}.type", value.get("type"))
    if value["type"] == "json_schema" and not isinstance((value.get("json_schema") or {}).get("schema"), dict):
        raise BadRequest(f"Missing required parameter: '{name}.json_schema.schema'.", param=f"{name}.json_schema")


def messages(name: str, value: Any) -> None:
    """Return if the value is a conversation whose parts hold what they speak of, instead of naming a place for it."""
    objects(name, value)
    for number, message in enumerate(value):
        where = f"{name}[{number}]"
        one_of(*ROLES)(f"{where}.role", message.get("role"))
        content = message.get("content")
        if content is None:
            if message["role"] != "assistant":
                raise BadRequest(f"Missing required parameter: '{where}.content'.", param=f"{where}.content")
        elif not isinstance(content, str):
            _require_parts(f"{where}.content", content)


def _require_parts(name: str, value: Any) -> None:
    objects(name, value)
    for number, part in enumerate(value):
        where, kind = f"{name}[{number}]", part.get("type")
        one_of(*PARTS)(f"{where}.type", kind)
        a(str if kind in ("text", "refusal") else dict)(f"{where}.{kind}", part.get(kind))
        if kind == "image_url" and not str(part[kind].get("url", "")).startswith(DATA):
            raise BadRequest(
                "Images are not fetched from elsewhere: send them inside the request, as a data: URL.",
                param=f"{where}.image_url.url",
                code="invalid_image_url",
            )
        if kind == "input_audio":
            for field in ("data", "format"):
                a(str)(f"{where}.input_audio.{field}", part[kind].get(field))


def wrong_type(name: str, wanted: str, value: Any) -> BadRequest:
    """Return the error for a value of another type than wanted."""
    got = "null" if value is None else _KINDS.get(type(value), "value")
    return BadRequest(f"Invalid type for '{name}': expected {wanted}, but got {got}.", param=name, code="invalid_type")


def _wrong_value(name: str, value: Any, allowed: tuple[str, ...]) -> BadRequest:
    listed = ", ".join(f"'{each}'" for each in allowed)
    said = f"Invalid value: '{str(value)[:64]}'. Supported values are: {listed}."
    return BadRequest(said, param=name, code="invalid_value")


def _too_long(name: str, most: int, length: int) -> BadRequest:
    said = f"Invalid '{name}': array too long. Expected an array with maximum length {most}, but got {length}."
    return BadRequest(said, param=name, code="array_above_max_length")


def _require_range(name: str, value: float, bounds: tuple[float | None, float | None], kind: str) -> None:
    least, most = bounds
    if least is not None and value < least:
        said, code = f"{kind} below minimum value. Expected a value >= {least}", f"{kind}_below_min_value"
    elif most is not None and value > most:
        said, code = f"{kind} above maximum value. Expected a value <= {most}", f"{kind}_above_max_value"
    else:
        return
    raise BadRequest(f"Invalid '{name}': {said}, but got {value} instead.", param=name, code=code)


_COMMON: dict[str, Check] = {
    "stream": a(bool),
    "stream_options": a(dict),
    "temperature": decimal(0, HEAT_MOST),
    "top_p": decimal(0, 1),
    "n": whole(1, CHOICES_MOST),
    "stop": texts,
    "max_tokens": whole(1),
    "presence_penalty": decimal(-PENALTY_MOST, PENALTY_MOST),
    "frequency_penalty": decimal(-PENALTY_MOST, PENALTY_MOST),
    "logit_bias": a(dict),
    "seed": whole(),
    "user": a(str),
    "metadata": a(dict),
    "store": a(bool),
    "service_tier": a(str),
    "response_format": response_format,
}
CHECKS: dict[str, dict[str, Check]] = {
    "chat": _COMMON
    | {
        "messages": messages,
        "max_completion_tokens": whole(1),
        "tools": objects,
        "parallel_tool_calls": a(bool),
        "functions": objects,
        "logprobs": a(bool),
        "top_logprobs": whole(0, LOGPROBS_MOST),
        "reasoning_effort": a(str),
        "modalities": a(list),
        "prediction": a(dict),
        "verbosity": a(str),
        "safety_identifier": a(str),
        "prompt_cache_key": a(str),
    },
    "completions": _COMMON
    | {
        "prompt": prompt,
        "suffix": a(str),
        "echo": a(bool),
        "best_of": whole(1, LOGPROBS_MOST),
        "logprobs": whole(0, LOGPROBS_MOST),
    },
    "embeddings": {
        "input": prompt,
        "encoding_format": one_of("float", "base64"),
        "dimensions": whole(1),
        "user": a(str),
    },
}
"""By operation: what each parameter must be. Null is OpenAI's word for the default and passes."""
OF_RESPONSES: dict[str, Check] = {
    "stream": a(bool),
    "max_output_tokens": whole(1),
    "metadata": a(dict),
    "tools": objects,
}
"""Of ``/v1/responses``, what is not checked again as the chat that it becomes."""
