"""What a client may ask is checked in OpenAI's words, before a place or a token is spent on it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.gateway.errors import BadRequest
from serving.gateway.request import ANSWER_MOST, IMAGE_TOKENS, parse, parse_response

SAID = [{"role": "user", "content": "hello"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
SOUND = {"type": "input_audio", "input_audio": {"data": "A" * 340_000, "format": "wav"}}


def chat(**parameters: Any) -> bytes:
    return json.dumps({"model": "m", "messages": SAID} | parameters).encode()


def of_user(*parts: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("parameters", "param", "code"),
    [
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": [1]}, "messages[0]", "invalid_type"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", None),
        ({"messages": of_user({"type": "video_url"})}, "messages[0].content[0].type", "invalid_value"),
        ({"messages": of_user({"type": "text"})}, "messages[0].content[0].text", "invalid_type"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
        ({"top_p": -0.1}, "top_p", "decimal_below_min_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": True}, "n", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"stream": True, "stream_options": "x"}, "stream_options", "invalid_type"),
        ({"stop": 5}, "stop", "invalid_type"),
        ({"stop": ["x"] * 17}, "stop", "array_above_max_length"),
        ({"logit_bias": "x"}, "logit_bias", "invalid_type"),
        ({"tools": "x"}, "tools", "invalid_type"),
        ({"response_format": "json"}, "response_format", "invalid_type"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", None),
    ],
)
def test_what_is_wrong_is_named_with_openais_code(parameters: dict[str, Any], param: str, code: str | None) -> None:
    with pytest.raises(BadRequest) as refused:
        parse("chat", chat(**parameters))
    assert (refused.value.param, refused.value.code) == (param, code)


@pytest.mark.parametrize("name", ["max_tokens", "temperature", "stream", "n", "stop", "tools", "seed"])
def test_null_is_the_default(name: str) -> None:
    assert parse("chat", chat(**{name: None})).is_stream is False


def test_nothing_is_fetched_for_a_client() -> None:
    for url in ("http://169.254.169.254/", "file:///etc/passwd", "//host/x", ""):
        with pytest.raises(BadRequest, match="not fetched"):
            parse("chat", chat(messages=of_user({"type": "image_url", "image_url": {"url": url}})))


def test_an_image_is_charged_as_models_read_it_not_by_its_bytes() -> None:
    with_image = parse("chat", chat(messages=of_user(IMAGE), max_tokens=1)).cost
    assert IMAGE_TOKENS <= with_image < IMAGE_TOKENS + 100


def test_sound_is_charged_by_its_length() -> None:
    assert 100 <= parse("chat", chat(messages=of_user(SOUND), max_tokens=1)).cost < 200


def test_a_bound_beyond_all_models_is_no_expectation() -> None:
    assert parse("chat", chat(max_tokens=10**11)).cost < ANSWER_MOST + 100


@pytest.mark.parametrize("prompt", ["x", ["x", "y"], [1, 2, 3], [[1, 2], [3]]])
def test_a_prompt_is_text_or_tokens_or_several(prompt: object) -> None:
    assert parse("completions", json.dumps({"model": "m", "prompt": prompt}).encode()).operation == "completions"


@pytest.mark.parametrize("prompt", ["", [""], [1, "x"], [[]], {"a": 1}, [-1]])
def test_other_prompts_are_refused(prompt: object) -> None:
    with pytest.raises(BadRequest) as refused:
        parse("completions", json.dumps({"model": "m", "prompt": prompt}).encode())
    assert refused.value.param == "prompt"


@pytest.mark.parametrize(
    "body",
    [
        b'{"temperature": NaN}',
        b'{"n": Infinity}',
        b"[1]",
        b"nonsense",
        b"\xff\xfe",
        b"",
        "{}".encode("utf-16"),
        rb'{"model": "m", "messages": [{"role": "user", "content": "\ud800"}]}',
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse("chat", body)


def test_responses_name_their_own_parameters() -> None:
    for parameters, param in (({"stream": "yes"}, "stream"), ({"max_output_tokens": -1}, "max_output_tokens")):
        with pytest.raises(BadRequest) as refused:
            parse_response(json.dumps({"model": "m", "input": "hi"} | parameters).encode())
        assert refused.value.param == param
