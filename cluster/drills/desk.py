"""Where the trainee sits: a platform of their own, an address, a token, the documents; all gone afterwards."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any

import yaml

from cluster.client import Client, Problem, Unreachable
from cluster.drills.recorder import DIRECTOR, Recorder
from cluster.ports import Clock
from cluster.settings import base_environment

READY_MS = 60_000
LOOK_MS = 150
STOP_S = 20


class DrillNotReady(Exception):
    """The simulated platform did not come up."""

    code = "drill_not_ready"

    def __init__(self, what: str, log: Path) -> None:
        super().__init__(what, log)
        self.what, self.log = what, log

    def __str__(self) -> str:
        return f"the drill's platform is not ready: {self.what}; its log is {self.log}"


@dataclass(frozen=True)
class Desk:
    """A platform that serves the shipped claims."""

    folder: Path
    recorder: Recorder
    clock: Clock
    client: Client
    orders: IO[str]

    @property
    def variables(self) -> dict[str, str]:
        """What the trainee's shell needs, so that `partage` speaks to this platform."""
        return {"PARTAGE_HOME": str(self.folder), "PARTAGE_API_PORT": str(self.recorder.address[1])}

    def direct(self, **order: object) -> None:
        """Let something happen in the simulated world."""
        self.orders.write(json.dumps(order) + "\n")
        self.orders.flush()

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
        """Return the body of an answer to the director. Raises ``Problem`` or ``Unreachable``."""
        return self.client.call(method, path, body=body, headers={DIRECTOR: "1", **(headers or {})}).body

    def items(self, path: str) -> list[Any]:
        """Return the items of the first page of a list."""
        found: list[Any] = self.ask("GET", f"{path}")["items"]
        return found

    def until(self, what: str, condition: Any) -> None:
        """Return once the condition holds. Raises ``DrillNotReady`` after ``READY_MS``."""
        end_ms = self.clock.monotonic_ms() + READY_MS
        while self.clock.monotonic_ms() < end_ms:
            with contextlib.suppress(Problem, Unreachable):
                if condition():
                    return
            self.clock.sleep_ms(LOOK_MS)
        raise DrillNotReady(what, self.folder / "control.log")


@contextlib.contextmanager
def prepared(folder: Path, clock: Clock) -> Iterator[Desk]:
    """Yield a desk whose platform serves the shipped claims under the shipped policy; end it afterwards."""
    (folder / "secrets").mkdir(parents=True, mode=0o700)
    token = secrets.token_hex(16)
    for name in ("operator.token", "defence.pepper", "civil.pepper"):
        secret = folder / "secrets" / name
        secret.touch(mode=0o600)
        secret.write_text(token if name == "operator.token" else secrets.token_hex(16))
    port = _free_port()
    recorder = Recorder(port, clock)
    environment = {**base_environment(), "PARTAGE_HOME": str(folder), "PARTAGE_API_PORT": str(port)}
    program = [sys.executable, "-m", "cluster.drills.stage"]
    with (folder / "control.log").open("w") as log:
        process = subprocess.Popen(program, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)
        recorder.start()
        try:
            address = f"http://127.0.0.1:{recorder.address[1]}"
            desk = Desk(folder, recorder, clock, Client(url=address, token=token), process.stdin or sys.stdout)
            _open(desk)
            yield desk
        finally:
            recorder.stop()
            process.terminate()
            process.wait(STOP_S)


def _open(desk: Desk) -> None:
    """Put policy and claims in force, lay their documents out, wait until everything is served."""
    profiles = resources.files("policies") / "profiles"
    for source, target in (("default.yaml", "policy.yaml"), ("claims.yaml", "claims.yaml")):
        with resources.as_file(profiles / source) as path:
            shutil.copy(path, desk.folder / target)
    policy = yaml.safe_load((desk.folder / "policy.yaml").read_text())["spec"]
    claims = [each["spec"] for each in yaml.safe_load_all((desk.folder / "claims.yaml").read_text())]
    desk.until("nothing answers", lambda: desk.ask("GET", "/livez"))
    desk.ask("PUT", "/v1/policy", policy, {"If-None-Match": "*"})
    for claim in claims:
        desk.ask("PUT", f"/v1/claims/{claim['id']}", claim, {"If-None-Match": "*"})
    desk.until("the claims are not served", lambda: _all_served(desk, len(claims)))


def _all_served(desk: Desk, wanted: int) -> bool:
    reasons = desk.items("/v1/reasons")
    return len(reasons) == wanted and all(reason["code"] is None for reason in reasons)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
