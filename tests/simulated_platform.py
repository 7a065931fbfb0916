"""A control plane over simulated devices, as a process of its own on a free port, and the shipped documents."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from cluster.client import Client, Problem, Unreachable

ROOT = Path(__file__).parents[1]
PROFILES = ROOT / "policies/profiles"
READY_S = 60


class Platform:
    """Where it is, and how to speak to it."""

    def __init__(self, home, port):
        self.home, self.port = home, port
        self.url = f"http://127.0.0.1:{port}"
        self.token_file = home / "secrets/operator.token"
        self.variables = {
            "PARTAGE_HOME": str(home),
            "PARTAGE_CONFIG": str(home / "config"),
            "PARTAGE_API_PORT": str(port),
            "PYTHONPATH": str(ROOT),
        }

    def client(self):
        return Client(url=self.url, token=self.token_file.read_text())

    def until(self, condition):
        """Return what the condition returns once it is true; fail if it takes too long."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            with contextlib.suppress(Unreachable, Problem):
                if found := condition():
                    return found
            time.sleep(0.1)  # noqa: TID251  # another process is waited for, in real time
        msg = f"waited {READY_S} s for {condition}"
        raise AssertionError(msg)


@contextlib.contextmanager
def running(home, *, devices=4):
    """Yield a platform that has decided; end it afterwards."""
    platform = Platform(home, _free_port())
    (home / "secrets").mkdir(parents=True)
    platform.token_file.write_text(secrets.token_hex(16))
    for domain in ("defence", "civil"):
        (home / f"secrets/{domain}.pepper").write_text(secrets.token_hex(16))
    environment = {**os.environ, **platform.variables, "PARTAGE_SIMULATED_DEVICES": str(devices)}  # noqa: TID251  # for a child
    program = [sys.executable, "-m", "cluster.main", "--platform", "simulated"]
    with (home / "control.log").open("w") as log:
        process = subprocess.Popen(program, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            platform.until(lambda: platform.client().get("/livez"))
            yield platform
        finally:
            process.terminate()
            process.wait(30)


def documents(folder):
    """Lay the shipped documents into the folder under the names that the runbooks use."""
    shutil.copy(PROFILES / "default.yaml", folder / "policy.yaml")
    shutil.copy(PROFILES / "claims.yaml", folder / "claims.yaml")
    claims = (PROFILES / "claims.yaml").read_text().split("\n---\n")
    mine = next(claim for claim in claims if "civil/justice:" in claim)
    (folder / "claim.yaml").write_text(mine)


def _free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
