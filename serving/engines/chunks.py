"""OpenAI's stream of chunks put together to the answer that a client without streaming expects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Document = dict[str, Any]


def assemble_chat(chunks: Iterable[Document]) -> Document:
    """Return the ``chat.completion`` whose chunks these are, in order; at least one."""
    whole: Document = {}
    choices: dict[int, Document] = {}
    for chunk in chunks:
        whole |= {key: value for key, value in chunk.items() if key != "choices"}
        for part in chunk["choices"]:
            _add_chat(choices.setdefault(part["index"], _empty_choice(part["index"])), part)
    return whole | {"object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}


def assemble_completion(chunks: Iterable[Document]) -> Document:
    """Return the ``text_completion`` whose chunks these are, in order; at least one."""
    whole: Document = {}
    choices: dict[int, Document] = {}
    for chunk in chunks:
        whole |= {key: value for key, value in chunk.items() if key != "choices"}
        for part in chunk["choices"]:
            choice = choices.setdefault(part["index"], {"index": part["index"], "text": "", "logprobs": None})
            choice["text"] += part.get("text") or ""
            for name, values in (part.get("logprobs") or {}).items():
                choice["logprobs"] = choice["logprobs"] or {}
                choice["logprobs"].setdefault(name, []).extend(values)
            choice["finish_reason"] = part.get("finish_reason")
    return whole | {"object": "text_completion", "choices": [choices[index] for index in sorted(choices)]}


def _empty_choice(index: int) -> Document:
    return {
        "index": index,
        "message": {"role": "assistant", "content": None},
        "logprobs": None,
        "finish_reason": None,
    }


def _add_chat(choice: Document, part: Document) -> None:
    delta, message = part.get("delta") or {}, choice["message"]
    for field in ("content", "reasoning_content", "refusal"):
        if delta.get(field) is not None:
            message[field] = (message.get(field) or "") + delta[field]
    for call in delta.get("tool_calls") or ():
        _add_tool_call(message.setdefault("tool_calls", []), call)
    if (part.get("logprobs") or {}).get("content"):
        choice["logprobs"] = {
            "content": [*((choice["logprobs"] or {}).get("content") or ()), *part["logprobs"]["content"]]
        }
    choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]


def _add_tool_call(calls: list[Document], part: Document) -> None:
    index = part.get("index", 0)
    while len(calls) <= index:
        calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[index], part.get("function") or {}
    call["id"] = part.get("id") or call["id"]
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""
