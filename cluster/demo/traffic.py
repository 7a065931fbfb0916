"""Live traffic: closed-loop clients that ask a model through its domain's gateway, and remember every answer."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import httpx

from cluster.ports import Clock

TOKENS = 12
ANSWER_TIMEOUT_S = 90
PAUSE_MS = 150
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
                result = ask(client, self._line, QUESTIONS[turn % len(QUESTIONS)], self._clock)
                with self._lock:
                    self._asked.append(result)
                turn += 1
                self._clock.sleep_ms(PAUSE_MS)

    def _still_wanted(self, number: int) -> bool:
        with self._lock:
            return number < self._wanted


def ask(client: httpx.Client, line: Line, question: str, clock: Clock) -> Asked:
    """Return what became of one request, exactly one: nothing is tried again."""
    began = clock.monotonic_ms()
    status, detail = 0, ""
    try:
        response = client.post(
            f"{line.gateway}/v1/chat/completions",
            headers={"Authorization": f"Bearer {line.key}"},
            json={"model": line.model, "max_tokens": TOKENS, "messages": [{"role": "user", "content": question}]},
        )
        status = response.status_code
        detail = _fault(response)
    except httpx.HTTPError as error:
        detail = f"{type(error).__name__}: {error}"
    took = clock.monotonic_ms() - began
    return Asked(claim=line.claim, began_ms=began, took_ms=took, status=status, detail=detail)


def _fault(response: httpx.Response) -> str:
    if response.status_code != httpx.codes.OK:
        return response.text[:300]
    try:
        choices = response.json()["choices"]
        return "" if choices[0]["message"]["content"] is not None else "the answer has no content"
    except (ValueError, KeyError, IndexError, TypeError):
        return f"the answer is no chat completion: {response.text[:200]}"
