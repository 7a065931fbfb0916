"""What llama.cpp leaves out of OpenAI's API: several prompts, echo, usage of all choices, older log probabilities.

What cannot be done is refused by name; llama.cpp would pass over it in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]


def unsupported(body: Document) -> tuple[str, str] | None:
    """Return the parameter that this engine cannot honour and a sentence about it; None if there is none."""
    if body.get("suffix"):
        return "suffix", "this model does not fill in between a prompt and a suffix"
    if (body.get("best_of") or 1) > (body.get("n") or 1):
        return "best_of", "this model does not choose the best of more answers than it returns"
    if any(modality != "text" for modality in body.get("modalities") or ()):
        return "modalities", "this model answers in text only"
    if body.get("echo") and (body.get("logprobs") is not None or not all(isinstance(p, str) for p in prompts(body))):
        return "echo", "this model repeats prompts that are texts, and without their log probabilities"
    return None


def prompts(body: Document) -> list[Any]:
    """Return the prompts of a completion, one or many; a list of numbers is one prompt of tokens."""
    given = body.get("prompt")
    if isinstance(given, list) and not all(isinstance(each, int) for each in given):
        return given
    return [given]


def parts(body: Document, operation: str) -> Iterator[tuple[int, Document]]:
    """Yield the requests that a request falls into, each with the index of its first choice."""
    if operation != "completions":
        yield 0, body
        return
    for number, prompt in enumerate(prompts(body)):
        yield number * int(body.get("n") or 1), body | {"prompt": prompt}


class Told:
    """The chunks of one request as OpenAI would have sent them, and what they add up to."""

    def __init__(self, body: Document, operation: str) -> None:
        self._echo = bool(body.get("echo"))
        self._is_chat = operation == "chat"
        self._begun: dict[int, int] = {}
        """Characters told so far, by choice."""
        self._usage: Document = {}
        self._counted = -1
        """First choice of the prompt that was counted last."""
        self._last: Document = {}
        self._name = ""
        """Of the answer: one, however many requests it takes."""

    def add(self, chunk: Document, first: int, prompt: object) -> Document | None:
        """Take a chunk of the request whose first choice has this index; return what the client gets, if anything."""
        usage = chunk.pop("usage", None)
        self._name = self._name or str(chunk.get("id", ""))
        chunk["id"] = self._name if self._is_chat else self._name.replace("chatcmpl-", "cmpl-")
        self._last = chunk
        if usage:
            self._count(usage, first)
        for choice in chunk["choices"]:
            choice["index"] += first
            if not self._is_chat:
                self._complete(choice, prompt)
        return chunk if chunk["choices"] else None

    def usage(self) -> Document:
        """Return the tokens of all choices; those of a prompt count once however many answers it has."""
        return self._usage

    def last(self) -> Document:
        """Return the chunk that tells the usage to clients that asked for it."""
        return self._last | {"choices": [], "usage": self._usage}

    def _count(self, usage: Document, first: int) -> None:
        known = self._usage or usage | {"prompt_tokens": 0, "completion_tokens": 0}
        read = known["prompt_tokens"] + (usage["prompt_tokens"] if first != self._counted else 0)
        told = known["completion_tokens"] + usage["completion_tokens"]
        self._usage = known | {"prompt_tokens": read, "completion_tokens": told, "total_tokens": read + told}
        self._counted = first

    def _complete(self, choice: Document, prompt: object) -> None:
        index = choice["index"]
        if self._echo and index not in self._begun:
            choice["text"] = f"{prompt}{choice['text']}"
        offset = self._begun.get(index, 0)
        choice["logprobs"] = _as_completions_tell(choice.get("logprobs"), offset)
        self._begun[index] = offset + len(choice["text"])


def _as_completions_tell(logprobs: Document | None, offset: int) -> Document | None:
    """Return log probabilities in the older shape of completions; llama.cpp has one for both."""
    if not logprobs:
        return None
    told: Document = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token in logprobs.get("content") or ():
        told["tokens"].append(token["token"])
        told["token_logprobs"].append(token["logprob"])
        told["top_logprobs"].append({each["token"]: each["logprob"] for each in token.get("top_logprobs") or ()})
        told["text_offset"].append(offset)
        offset += len(token["token"])
    return told
