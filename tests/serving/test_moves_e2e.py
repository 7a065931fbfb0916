"""No request is lost by a planned move: real Ray, real replicas, clients that ask all through it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1]) // 10 * 10 + 3


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_changing_growing_and_shrinking_a_variant_under_load_loses_no_request() -> None:
    command = [sys.executable, "-m", "tests.serving.moves", str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["failed"] == []
    steady, changed, grown, shrunk = told["steps"]
    assert steady["answered"].get("old", 0) > 0
    assert changed["answered"]["new"] > 0, "the other variant answers"
    assert grown["answered"]["old"] == shrunk["answered"]["old"] == changed["answered"]["old"]
    assert shrunk["answered"]["new"] > grown["answered"]["new"] > changed["answered"]["new"]
