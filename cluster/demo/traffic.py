"""Live traffic: closed-loop clients that ask a model through its domain's gateway, and remember every answer.

Every second client has its answers streamed, as people do; a stream counts as answered only if it came to its end.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from cluster.ports import Clock

TOKENS = 12
ANSWER_TIMEOUT_S = 90
PAUSE_MS = 150
SHOWN = 300
"""Characters of a fault that are remembered."""
EVENT, DONE = "data: ", "[DONE]"
QUESTIONS = (
    "Summarise this note in one line: the bridge is closed until noon.",
    "Translate to French: good morning.",
    "Name one risk of storing keys in code.",
    "Write a short greeting for a visitor.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request and what became of it."""

    claim: str
    began_ms: int
    took_ms: int
    status: int
    """0 if there was no answer at all."""
    detail: str = ""

    @property
    def answered(self) -> bool:
        """Whether the model answered."""
        return self.status == httpx.codes.OK and not self.detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where a claim's model is reached, and with which key."""

    claim: str
    gateway: str
    key: str = field(repr=False)
    model: str


class Traffic:
    """Clients of one claim; their number can be changed at any time."""

    def __init__(self, line: Line, clock: Clock) -> None:
        self._line = line
        self._clock = clock
        self._lock = threading.Lock()
        self._wanted = 0
        self._threads: list[threading.Thread] = []
        self._asked: list[Asked] = []

    def clients(self, wanted: int) -> None:
        """Let so many clients ask from now on; those too many end after the answer that they wait for."""
        with self._lock:
            self._wanted = wanted
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            running = len(self._threads)
            for number in range(running, wanted):
                thread = threading.Thread(target=self._ask_on, args=(number,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def is_known(self) -> bool:
        """Whether the gateway knows the key by now: a new one travels with the next routing table."""
        try:
            answer = httpx.get(
                f"{self._line.gateway}/v1/models",
                headers={"Authorization": f"Bearer {self._line.key}"},
                timeout=ANSWER_TIMEOUT_S,
            )
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    def stop(self) -> None:
        """Return once the last answer is there."""
        self.clients(0)
        for thread in list(self._threads):
            thread.join(ANSWER_TIMEOUT_S)

    def asked(self) -> list[Asked]:
        """Return every request that ended, oldest first."""
        with self._lock:
            return list(self._asked)

    def _ask_on(self, number: int) -> None:
        with httpx.Client(timeout=ANSWER_TIMEOUT_S) as client:
            turn = number
            while self._still_wanted(number):
                how = asked_streamed if number % 2 else asked_whole
                result = ask(how, client, self._line, QUESTIONS[turn % len(QUESTIONS)], self._clock)
                with self._lock:
                    self._asked.append(result)
                turn += 1
                self._clock.sleep_ms(PAUSE_MS)

    def _still_wanted(self, number: int) -> bool:
        with self._lock:
            return number < self._wanted


Way = Callable[[httpx.Client, str, dict[str, str], dict[str, Any]], tuple[int, str]]
"""How an answer is read: client, URL, headers and body to the status, and what is wrong with the answer."""


def ask(way: Way, client: httpx.Client, line: Line, question: str, clock: Clock) -> Asked:
    """Return what became of one request, exactly one: nothing is tried again."""
    began = clock.monotonic_ms()
    status, detail = 0, ""
    url, headers = f"{line.gateway}/v1/chat/completions", {"Authorization": f"Bearer {line.key}"}
    body = {"model": line.model, "max_tokens": TOKENS, "messages": [{"role": "user", "content": question}]}
    try:
        status, detail = way(client, url, headers, body)
    except httpx.HTTPError as error:
        detail = f"{type(error).__name__}: {error}"
    took = clock.monotonic_ms() - began
    return Asked(claim=line.claim, began_ms=began, took_ms=took, status=status, detail=detail)


def asked_whole(client: httpx.Client, url: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, str]:
    """Ask for the answer in one piece."""
    response = client.post(url, headers=headers, json=body)
    if response.status_code != httpx.codes.OK:
        return response.status_code, response.text[:SHOWN]
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return response.status_code, f"the answer is no chat completion: {response.text[:SHOWN]}"
    return response.status_code, "" if content is not None else "the answer has no content"


def asked_streamed(client: httpx.Client, url: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, str]:
    """Ask for the answer piece by piece."""
    with client.stream("POST", url, headers=headers, json=body | {"stream": True}) as response:
        if response.status_code != httpx.codes.OK:
            return response.status_code, response.read().decode(errors="replace")[:SHOWN]
        events = [line.removeprefix(EVENT) for line in response.iter_lines() if line.startswith(EVENT)]
    if not events or events[-1] != DONE:
        return response.status_code, f"the stream broke off: {' '.join(events[-1:])[:SHOWN]}"
    try:
        said = any(json.loads(event)["choices"][0]["delta"].get("content") for event in events[:-1])
    except (ValueError, KeyError, IndexError, TypeError):
        return response.status_code, f"the stream is no chat completion: {events[0][:SHOWN]}"
    return response.status_code, "" if said else "the answer has no content"
