"""``/v1/responses``, asked by the stock OpenAI client."""

from __future__ import annotations

import json

import openai
import pytest

from serving.gateway.errors import BadRequest
from serving.gateway.request import parse_response
from serving.gateway.speech import ResponseSpeech
from tests.serving.fakes import MODEL, World
from tests.serving.test_openai_client import run

CALL_CHUNK = {
    "model": MODEL,
    "choices": [
        {
            "index": 0,
            "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "weather", "arguments": '{"a"'}}]},
        }
    ],
}
MORE_CHUNK = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}}]}
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}


def asked(**body: object) -> dict[str, object]:
    return parse_response(json.dumps({"model": MODEL, "input": "hello"} | body).encode()).body


def test_a_response_whole_and_streamed_says_the_same() -> None:
    async def story(world: World, client: openai.AsyncOpenAI) -> None:
        whole = await client.responses.create(model=MODEL, input="hello", max_output_tokens=5)
        assert whole.output_text
        assert (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert whole.usage.output_tokens == 5
        said, kinds, last = "", [], None
        stream = await client.responses.create(model=MODEL, input="hello", max_output_tokens=5, stream=True)
        async for event in stream:
            kinds.append(event.type)
            said += event.delta if event.type == "response.output_text.delta" else ""
            last = event
        assert said == whole.output_text == last.response.output_text
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] == "response.incomplete", "it was cut by its own limit"
        assert last.response.usage.output_tokens == 5
        assert last.sequence_number == len(kinds) - 1

    run(story)


def test_a_whole_conversation_becomes_the_messages_of_a_chat() -> None:
    items = [
        {"role": "developer", "content": "be brief"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
    ]
    body = asked(input=items, instructions="answer in French", tools=[TOOL], reasoning={"effort": "low"})
    assert [message["role"] for message in body["messages"]] == ["system", "system", "user", "assistant", "tool"]
    assert body["messages"][2]["content"] == "weather?"
    assert body["messages"][3]["tool_calls"][0]["function"]["name"] == "weather"
    assert body["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert body["reasoning_effort"] == "low"


def test_a_schema_and_an_image_are_passed_on() -> None:
    schema = {"type": "json_schema", "name": "city", "schema": {"type": "object"}, "strict": True}
    image = {"type": "input_image", "image_url": "data:image/png;base64,xx"}
    body = asked(input=[{"role": "user", "content": [image]}], text={"format": schema}, max_output_tokens=9)
    assert body["response_format"]["json_schema"]["name"] == "city"
    assert body["messages"][0]["content"][0]["image_url"]["url"] == "data:image/png;base64,xx"
    assert body["max_completion_tokens"] == 9


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("background", True),
        ("input", []),
        ("input", [{"type": "computer_call"}]),
        ("tools", [{"type": "web_search"}]),
    ],
)
def test_what_needs_a_memory_or_tools_of_ours_is_refused_by_name(parameter: str, value: object) -> None:
    with pytest.raises(BadRequest) as refused:
        asked(**{parameter: value})
    assert refused.value.param == parameter


def test_calls_of_tools_arrive_as_items_with_their_arguments_put_together() -> None:
    speech = ResponseSpeech("req_1", 1)
    told = speech.piece(json.dumps(CALL_CHUNK).encode()) + speech.piece(json.dumps(MORE_CHUNK).encode()) + speech.end()
    events = [json.loads(part.split(b"data: ")[1]) for part in told.split(b"\n\n") if part]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    (call,) = events[-1]["response"]["output"]
    assert (call["call_id"], call["name"], call["arguments"]) == ("c1", "weather", '{"a":1}')


def test_a_break_within_a_stream_is_a_failed_response() -> None:
    event = json.loads(ResponseSpeech("req_1", 1).broken().split(b"data: ")[1])
    assert (event["type"], event["response"]["status"]) == ("response.failed", "failed")
