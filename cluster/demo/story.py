"""The story that the platform exists for, told on the running platform with live traffic all through it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cluster.cli.contexts import connect
from cluster.cli.screen import SIMULATED, say
from cluster.client import Client, Problem, Unreachable
from cluster.clock import SystemClock
from cluster.demo.report import Check, checks, summary
from cluster.demo.traffic import Line, Traffic
from cluster.demo.witness import Witness
from cluster.ports import Clock
from cluster.settings import Settings
from policies.model.units import SecurityDomain

CIVIL_CLAIM = "civil/justice:assistant"
DEFENCE_CLAIM = "defence/cyber:triage"
QUIET_CLAIM = "civil/health:summaries"
FEW, MANY = 1, 6
"""Clients: with four requests at once per replica, six clients ask for a second replica."""
OWN, GROWN = 1, 2
"""Replicas, each on a device of its own."""
PATIENCE_MS = 180_000
POLL_MS = 200


class StoryStuck(Exception):
    """What the story waits for did not come."""

    code = "timeout"

    def __init__(self, what: str, reasons: list[str]) -> None:
        super().__init__(what, reasons)
        self.what, self.reasons = what, reasons

    def __str__(self) -> str:
        return "\n  ".join([f"waited {PATIENCE_MS // 1000} s for this, in vain: {self.what}", *self.reasons])


class NotPrepared(Exception):
    """The platform does not run, or not with the shipped claims."""

    code = "not_found"

    def __init__(self, claim: str) -> None:
        super().__init__(claim)
        self.claim = claim

    def __str__(self) -> str:
        return f"the story needs claim {self.claim}; apply the shipped claims with `partage up`"


@dataclass
class Stage:
    """Everything that the story needs at hand."""

    client: Client
    clock: Clock
    traffic: dict[str, Traffic]
    began_ms: int
    lines: list[tuple[int, str]] = field(default_factory=list)
    away: bool = False

    def tell(self, sentence: str) -> None:
        """Say what happened and when."""
        at = self.clock.monotonic_ms() - self.began_ms
        self.lines.append((at, sentence))
        say(f"{at / 1000:7.1f} s  {sentence}")

    def ask(self, path: str) -> Any:
        """Return an answer of the control plane; while it is away, wait for it to come back."""
        deadline = self.clock.monotonic_ms() + PATIENCE_MS
        while True:
            try:
                found = self.client.get(path)
            except (Unreachable, Problem) as error:
                if isinstance(error, Problem) and error.code not in {"not_ready", "journal_busy", "no_policy"}:
                    raise
                if not self.away:
                    self.away = True
                    self.tell("the control plane is away; requests go on")
                if self.clock.monotonic_ms() > deadline:
                    raise
                self.clock.sleep_ms(POLL_MS)
            else:
                if self.away:
                    self.away = False
                    self.tell("the control plane is back")
                return found

    def answering(self, claim: str) -> int:
        """Return how many replicas of the claim run and receive requests."""
        groups = self.ask(f"/v1/claims/{claim}")["groups"]
        return sum(group["running"] for group in groups if group["routed"] and group["state"] == "running")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Return once it holds. Raises ``StoryStuck`` with every claim's reason."""
        deadline = self.clock.monotonic_ms() + PATIENCE_MS
        while not holds():
            if self.clock.monotonic_ms() > deadline:
                reasons = [f"{reason['claim']}: {reason['sentence']}" for reason in self.ask("/v1/reasons")["items"]]
                raise StoryStuck(what, reasons)
            self.clock.sleep_ms(POLL_MS)


def tell(settings: Settings) -> int:
    """Tell the story and return 0 if every promise was kept, else 1."""
    client, clock = connect(), SystemClock()
    lines, prefixes = prepare(client, settings)
    stage = Stage(
        client=client,
        clock=clock,
        traffic={line.claim: Traffic(line, clock) for line in lines},
        began_ms=clock.monotonic_ms(),
    )
    witness = Witness(client, clock, floor_of="civil")
    first_event = client.get("/v1/events", newest=True, limit=1)["revision"]
    witness.start()
    try:
        play(stage)
    except StoryStuck as stuck:
        stage.tell(str(stuck))
        found = [Check(name="the story came to its end", passed=False, detail=stuck.what)]
    else:
        found = [Check(name="the story came to its end", passed=True)]
    finally:
        for traffic in stage.traffic.values():
            traffic.clients(0)
    for traffic in stage.traffic.values():
        traffic.stop()
    moves = stage.ask("/v1/moves")
    found += checks(stage.client, witness.stop(), {c: t.asked() for c, t in stage.traffic.items()}, first_event)
    for prefix in prefixes:
        client.call("DELETE", f"/v1/keys/{prefix}")
    sys.stdout.write(summary(stage.lines, moves, {c: t.asked() for c, t in stage.traffic.items()}, found))
    return 0 if all(check.passed for check in found) else 1


def play(stage: Stage) -> None:
    """Let demand rise and fall; each sentence is told when it has come true."""
    if stage.ask("/v1/status")["simulated"]:
        say(SIMULATED)
    stage.until(lambda: all(traffic.is_known() for traffic in stage.traffic.values()), "the gateways know the new keys")
    for traffic in stage.traffic.values():
        traffic.clients(FEW)
    stage.until(lambda: all(stage.answering(claim) >= 1 for claim in stage.traffic), "every claim is answered")
    stage.until(lambda: stage.answering(CIVIL_CLAIM) == OWN, "civil holds its own devices alone")
    stage.until(lambda: all(traffic.asked() for traffic in stage.traffic.values()), "each model has answered once")
    stage.tell("calm: every claim is answered, Defence leaves a device idle")

    stage.traffic[CIVIL_CLAIM].clients(MANY)
    stage.tell(f"civil demand rises: {MANY} clients ask at once")
    stage.until(lambda: stage.answering(CIVIL_CLAIM) == GROWN, "civil serves on a borrowed Defence device")
    stage.tell("civil has borrowed Defence's idle device and answers on it")

    stage.traffic[DEFENCE_CLAIM].clients(MANY)
    stage.tell(f"Defence demand rises: {MANY} clients ask at once")
    stage.until(lambda: stage.answering(CIVIL_CLAIM) == OWN, "civil gives back")
    stage.tell("the civil group no longer receives requests; it drains and stops")
    stage.until(lambda: stage.answering(DEFENCE_CLAIM) == GROWN, "Defence answers on the device that it took back")
    stage.tell("the device is scrubbed, proved clean and bound to Defence; Defence answers on it")

    stage.traffic[DEFENCE_CLAIM].clients(FEW)
    stage.tell(f"Defence demand falls: {FEW} client is left")
    stage.until(lambda: stage.answering(DEFENCE_CLAIM) == OWN, "Defence gives back")
    stage.tell("Defence has given the device back")
    stage.until(lambda: stage.answering(CIVIL_CLAIM) == GROWN, "civil grows again")
    stage.tell("civil answers on it again")


def prepare(client: Client, settings: Settings) -> tuple[list[Line], list[str]]:
    """Return a line with a fresh key to each of the story's claims, and the keys' prefixes."""
    lines, prefixes = [], []
    for claim in (CIVIL_CLAIM, QUIET_CLAIM, DEFENCE_CLAIM):
        tenant = claim.partition(":")[0]
        try:
            model = client.get(f"/v1/claims/{claim}")["claim"]["model"]
        except Problem as problem:
            if problem.code == "not_found":
                raise NotPrepared(claim) from problem
            raise
        made = client.call("POST", "/v1/keys", body={"tenant": tenant, "days": 1}).body
        prefixes.append(made["record"]["prefix"])
        gateway = settings.gateway_url(SecurityDomain(tenant.partition("/")[0]))
        lines.append(Line(claim=claim, gateway=gateway, key=made["key"], model=model))
    return lines, prefixes
