"""Tokens of answers that no engine counted: the client went or the engine broke, and what was read is still owed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from serving.gateway.request import CHARACTERS_PER_TOKEN, Request

OF_A_MESSAGE = 4
"""Tokens that mark the begin, the role and the end of one message."""

Count = Callable[[str], int]
"""Text to the number of its tokens."""


def by_rule(text: str) -> int:
    """Return a token for each four characters, begun ones included."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def by_rule_for(_: str) -> Count:
    """Return ``by_rule`` for any model."""
    return by_rule


@cache
def by_mistral(name: str) -> Count:
    """Return the counting of a tokenizer that mistral-common ships; ``by_rule`` if it does not ship it.

    The first call loads it: up to a second and 100 MiB.
    """
    try:
        from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

        folder = files("mistral_common") / "data"
        file = next(each for each in sorted(folder.iterdir(), key=str) if each.name.startswith(name))
        inner = MistralTokenizer.from_file(str(file)).instruct_tokenizer.tokenizer
    except (ImportError, StopIteration):
        return by_rule
    return lambda text: len(inner.encode(text, bos=False, eos=False))


def counting(tokenizers: Mapping[str, str]) -> Callable[[str], Count]:
    """Return what gives each model its counting; ``tokenizers`` names those that have one in mistral-common."""

    def of(model: str) -> Count:
        return by_mistral(tokenizers[model]) if tokenizers.get(model) else by_rule

    return of


def prompt_tokens(request: Request, count: Count) -> int:
    """Return the tokens of what was asked."""
    messages = request.body.get("messages")
    if isinstance(messages, list):
        texts = [_text(message.get("content")) for message in messages if isinstance(message, dict)]
        return sum(count(text) + OF_A_MESSAGE for text in texts)
    asked = request.body.get("prompt") or request.body.get("input") or ""
    return sum(count(str(text)) for text in (asked if isinstance(asked, list) else [asked]))


def answer_tokens(chunks: Iterable[bytes], count: Count) -> int:
    """Return the tokens of the pieces that the client was sent."""
    return count("".join(_said(json.loads(chunk)) for chunk in chunks))


def _said(chunk: dict[str, Any]) -> str:
    parts = []
    for choice in chunk.get("choices") or ():
        told = choice.get("delta") or choice.get("message") or {}
        parts += [choice.get("text") or "", told.get("content") or "", told.get("reasoning_content") or ""]
        parts += [(call.get("function") or {}).get("arguments") or "" for call in told.get("tool_calls") or ()]
    return "".join(parts)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
