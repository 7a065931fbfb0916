"""OpenAI's ``/v1/responses`` in terms of chat completions: the part of it that needs no memory between requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from serving.gateway.errors import BadRequest

Document = dict[str, Any]
PARAMETERS = frozenset(
    {"model", "input", "instructions", "max_output_tokens", "temperature", "top_p", "stream", "stream_options", "user"}
    | {"metadata", "store", "text", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "prompt_cache_key"}
    | {"safety_identifier", "service_tier", "truncation", "include", "top_logprobs"}
)
"""Accepted; ``previous_response_id``, ``conversation`` and ``background`` need answers to be kept, and none are."""
_SAME = ("model", "temperature", "top_p", "user", "metadata", "parallel_tool_calls", "prompt_cache_key")
_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "input_image": "image_url"}


def as_chat(body: Document) -> Document:
    """Return the chat completion that the body of a ``/v1/responses`` request asks for. Raises ``BadRequest``."""
    given = body.get("input")
    if not given or not isinstance(given, str | list):
        raise BadRequest("Missing required parameter: 'input'.", param="input")
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else _messages(given)
    if body.get("instructions"):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    chat: Document = {"messages": messages} | {name: body[name] for name in _SAME if body.get(name) is not None}
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    if body.get("stream") is True:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    if isinstance(body.get("reasoning"), dict) and body["reasoning"].get("effort"):
        chat["reasoning_effort"] = body["reasoning"]["effort"]
    return chat | _format(body) | _tools(body)


def _messages(items: list[Any]) -> list[Document]:
    messages: list[Document] = []
    for item in items:
        if not isinstance(item, dict):
            raise BadRequest("Each item of 'input' must be an object.", param="input")
        match item.get("type", "message"):
            case "message":
                messages.append({"role": _role(item.get("role")), "content": _content(item.get("content"))})
            case "function_call":
                function = {"name": item.get("name"), "arguments": item.get("arguments")}
                call = {"id": item.get("call_id"), "type": "function", "function": function}
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            case "function_call_output":
                output = item.get("output")
                messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": output})
            case "reasoning":
                continue  # a client sends back what it was given; chat models take none of it
            case other:
                raise BadRequest(f"Items of type '{other}' are not supported in 'input'.", param="input")
    return messages


def _role(given: Any) -> str:
    if given not in {"user", "assistant", "system", "developer"}:
        raise BadRequest("The role of a message is user, assistant, system or developer.", param="input")
    return "system" if given == "developer" else str(given)


def _content(given: Any) -> Any:
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise BadRequest("The content of a message is a text or a list of parts.", param="input")
    parts = [_part(part) for part in given]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: Any) -> Document:
    kind = _PARTS.get(part.get("type", "")) if isinstance(part, dict) else None
    if kind is None:
        raise BadRequest("Parts of a message are input_text, output_text or input_image.", param="input")
    if kind == "text":
        return {"type": "text", "text": str(part.get("text", ""))}
    return {"type": "image_url", "image_url": {"url": part.get("image_url"), "detail": part.get("detail", "auto")}}


def _format(body: Document) -> Document:
    text = body.get("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type", "text") == "text":
        return {}
    if wanted["type"] == "json_object":
        return {"response_format": {"type": "json_object"}}
    schema = {name: wanted[name] for name in ("name", "schema", "strict", "description") if name in wanted}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _tools(body: Document) -> Document:
    tools = body.get("tools") or []
    if not isinstance(tools, list) or any(not isinstance(t, dict) or t.get("type") != "function" for t in tools):
        raise BadRequest("Tools of this gateway are functions; it runs none of its own.", param="tools")
    if not tools:
        return {}
    known = ("name", "description", "parameters", "strict")
    functions = [{"type": "function", "function": {k: t[k] for k in known if k in t}} for t in tools]
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    return {"tools": functions, "tool_choice": choice}


def whole(chat: Document, name: str, created_s: int) -> Document:
    """Return the response whose chat completion this is; ``name`` makes its ids."""
    choice = chat["choices"][0]
    message, output = choice["message"], []
    if message.get("content"):
        output.append(_message(name, message["content"], "completed"))
    for number, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        output.append(_call(f"fc_{name}_{number}", call["id"], function["name"], function["arguments"]))
    return _response(chat, name, created_s, output, choice.get("finish_reason")) | {"usage": _usage(chat.get("usage"))}


def _response(chat: Document, name: str, created_s: int, output: list[Document], finish: str | None) -> Document:
    is_cut = finish == "length"
    return {
        "id": f"resp_{name}",
        "object": "response",
        "created_at": created_s,
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "error": None,
        "instructions": None,
        "metadata": {},
        "model": chat.get("model", ""),
        "output": output,
        "parallel_tool_calls": True,
        "store": False,
        "tool_choice": "auto",
        "tools": [],
        "temperature": None,
        "top_p": None,
        "usage": None,
    }


def _message(name: str, text: str, status: str) -> Document:
    content = [_text(text)] if status == "completed" else []
    return {"id": f"msg_{name}", "type": "message", "role": "assistant", "status": status, "content": content}


def _text(text: str) -> Document:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call(item: str, call: str | None, name: str, arguments: str) -> Document:
    about = {"id": item, "type": "function_call", "status": "completed"}
    return about | {"call_id": call, "name": name, "arguments": arguments}


def _usage(chat: Document | None) -> Document | None:
    if not chat:
        return None
    cached = (chat.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return {
        "input_tokens": chat.get("prompt_tokens", 0),
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": chat.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": chat.get("prompt_tokens", 0) + chat.get("completion_tokens", 0),
    }


class ResponseStream:
    """Chunks of a chat completion to the events of a response."""

    def __init__(self, name: str, created_s: int) -> None:
        self._name, self._created_s = name, created_s
        self._number = 0
        self._text = ""
        self._calls: dict[int, Document] = {}
        self._chat: Document = {}
        self._finish: str | None = None
        self._has_begun = False

    def feed(self, chunk: Document) -> Iterator[bytes]:
        """Yield the events that this chunk causes."""
        self._chat |= {key: value for key, value in chunk.items() if key in {"model", "usage"} and value}
        if not self._has_begun:
            self._has_begun = True
            begun = _response(self._chat, self._name, self._created_s, [], None) | {"status": "in_progress"}
            yield self._event("response.created", response=begun)
            yield self._event("response.in_progress", response=begun)
        for choice in chunk.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish
            delta = choice.get("delta") or {}
            for call in delta.get("tool_calls") or ():
                self._take(call)
            if delta.get("content"):
                yield from self._say(delta["content"])

    def end(self) -> Iterator[bytes]:
        """Yield the events that close a complete answer."""
        output = []
        if self._text:
            at = {"item_id": f"msg_{self._name}", "output_index": 0, "content_index": 0}
            yield self._event("response.output_text.done", **at, text=self._text, logprobs=[])
            yield self._event("response.content_part.done", **at, part=_text(self._text))
            output.append(_message(self._name, self._text, "completed"))
            yield self._event("response.output_item.done", output_index=0, item=output[0])
        for number, call in sorted(self._calls.items()):
            item = _call(f"fc_{self._name}_{number}", call["id"], call["name"], call["arguments"])
            yield from self._called(item, len(output))
            output.append(item)
        done = _response(self._chat, self._name, self._created_s, output, self._finish)
        done["usage"] = _usage(self._chat.get("usage"))
        yield self._event(f"response.{done['status']}", response=done)

    def broken(self, message: str) -> bytes:
        """Return the event that tells that the engine stopped within the answer."""
        error = {"code": "server_error", "message": message}
        failed = _response(self._chat, self._name, self._created_s, [], None)
        return self._event("response.failed", response=failed | {"status": "failed", "error": error})

    def _say(self, text: str) -> Iterator[bytes]:
        at = {"item_id": f"msg_{self._name}", "output_index": 0, "content_index": 0}
        if not self._text:
            item = _message(self._name, "", "in_progress")
            yield self._event("response.output_item.added", output_index=0, item=item)
            yield self._event("response.content_part.added", **at, part=_text(""))
        self._text += text
        yield self._event("response.output_text.delta", **at, delta=text, logprobs=[])

    def _take(self, part: Document) -> None:
        call = self._calls.setdefault(part.get("index", 0), {"id": None, "name": "", "arguments": ""})
        function = part.get("function") or {}
        call["id"] = part.get("id") or call["id"]
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""

    def _called(self, item: Document, index: int) -> Iterator[bytes]:
        begun = item | {"status": "in_progress", "arguments": ""}
        at = {"item_id": item["id"], "output_index": index}
        yield self._event("response.output_item.added", output_index=index, item=begun)
        yield self._event("response.function_call_arguments.delta", **at, delta=item["arguments"])
        arguments = item["arguments"]
        yield self._event("response.function_call_arguments.done", **at, arguments=arguments, name=item["name"])
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _event(self, kind: str, **about: Any) -> bytes:
        document = {"type": kind, "sequence_number": self._number} | about
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps(document).encode())
