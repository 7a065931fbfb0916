"""The console on a free port, over a source of ours: run as a program, since one process bears one console.

Commands come on standard input, one JSON object a line; the address goes to standard output.
"""

import asyncio
import json
import socket
import sys
import threading
from dataclasses import replace

import uvicorn

from cluster.clock import SystemClock
from cluster.console.app import create
from cluster.console.port import ConsoleRefused, ControlPlaneSilent, Offer, TokenRefused
from cluster.console.scene import Entry
from cluster.console.sessions import Sessions
from tests.cluster.console import scenes

TOKENS = {"operator-token": scenes.OPERATOR, "justice-key": scenes.JUSTICE}


class Stage:
    """A source whose scene the test sets and whose calls it can read back."""

    def __init__(self):
        self.clock = SystemClock()
        self.kind, self.changes, self.calls, self.silent, self.seen_ms = "morning", {}, [], False, 0

    async def viewer(self, token):
        if token not in TOKENS:
            raise TokenRefused("this token is not accepted")
        return TOKENS[token]

    async def scene(self, token):
        viewer = await self.viewer(token)
        if self.silent:
            raise ControlPlaneSilent("the control plane does not answer")
        now = self.clock.now_ms()
        scene = scenes.crowd(at_ms=now) if self.kind == "crowd" else scenes.morning(viewer)
        if self.kind != "crowd":
            scene = shifted(scene, now)
        return replace(scene, **self.changes)

    async def offer(self, token, wish, words):
        self.note("offer", wish.claim)
        if wish.max_replicas > 10:
            return Offer(lines=("more than the largest quota: it would never be served",), acceptable=False)
        return Offer(
            lines=("1 replica now on H100-80GB", "the second in about 2 min, once a GPU is scrubbed"), acceptable=True
        )

    async def submit(self, token, wish):
        self.note("submit", wish.claim, wish.model, str(wish.max_replicas))

    async def delete(self, token, claim):
        self.note("delete", claim)

    async def start_canary(self, token, claim, variant, weight_percent):
        self.note("try", claim, variant, weight_percent)

    async def weigh_canary(self, token, claim, weight_percent):
        self.note("weigh", claim, weight_percent)

    async def promote_canary(self, token, claim):
        self.note("promote", claim)

    async def end_canary(self, token, claim):
        self.note("end", claim)

    async def make_key(self, token, tenant):
        self.note("key", tenant)
        return "pk-shown-once-only"

    async def revoke(self, token, prefix):
        raise ConsoleRefused("this key was made by somebody else")

    async def cordon(self, token, subject, reason):
        self.note("cordon", subject, reason)

    async def uncordon(self, token, subject):
        self.note("uncordon", subject)

    async def propose_mode(self, token, mode, hours, reason):
        self.note("mode", mode, str(hours), reason)

    async def approve(self, token, proposal):
        self.note("approve", proposal)

    def note(self, *what):
        self.calls.append(list(what))

    def obey(self, command):
        match command:
            case {"reset": _}:
                self.kind, self.changes, self.calls, self.silent = "morning", {}, [], False
            case {"kind": kind}:
                self.kind = kind
            case {"silent": silent}:
                self.silent = silent
            case {"entry": text}:
                entry = Entry(number=999, at_ms=self.clock.now_ms(), actor="test", text=text)
                self.changes = {"timeline": (entry, *scenes.entries())}
            case {"loads": percent}:
                readings = scenes.morning().readings
                self.changes = {"readings": tuple(replace(each, utilisation_percent=percent) for each in readings)}
            case {"stale_ms": age}:
                self.changes = {"observed_at_ms": self.clock.now_ms() - age}
            case {"calm": _}:
                self.changes = {"simulated": False, "mode": "normal", "declaration": None}


def shifted(scene, now):
    """Move a scene of the fixtures to the present."""
    by = now - scenes.NOW
    declared = scene.declaration
    return replace(
        scene,
        now_ms=now,
        observed_at_ms=now - 1_000,
        declaration=declared and replace(declared, expires_at_ms=declared.expires_at_ms + by),
        claims=tuple(
            replace(view, reason=replace(view.reason, eta_ms=view.reason.eta_ms and view.reason.eta_ms + by))
            for view in scene.claims
        ),
        approvals=tuple(replace(each, expires_at_ms=each.expires_at_ms + by) for each in scene.approvals),
        keys=tuple(replace(each, expires_at_ms=each.expires_at_ms + by) for each in scene.keys),
        timeline=tuple(replace(each, at_ms=each.at_ms + by) for each in scene.timeline),
    )


def listen(stage):
    for line in sys.stdin:
        command = json.loads(line)
        stage.obey(command)
        say({"calls": stage.calls})


def say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main():
    stage = Stage()
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    app = create(stage, stage.clock, Sessions(stage.clock))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    threading.Thread(target=listen, args=(stage,), daemon=True).start()
    say({"url": f"http://127.0.0.1:{sock.getsockname()[1]}"})
    asyncio.run(server.serve(sockets=[sock]))


if __name__ == "__main__":
    main()
