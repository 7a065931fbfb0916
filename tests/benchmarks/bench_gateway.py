"""``make bench-gateway``: the gateway beside bare Ray Serve and LiteLLM's proxy, one run, one machine, one engine.

Prints a table of requests a second, latencies and memory, then the ratios that are promised. LiteLLM is installed into
an environment of its own below ``--folder`` the first time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from tests.benchmarks.gateway_load import Load
from tests.benchmarks.gateway_sides import KEY, MODEL

SIDES = ("upstream", "litellm", "serve", "serve-haproxy", "partage-serve", "partage-haproxy", "partage-door")
LITELLM = "litellm[proxy]==1.106.2"
MASTER_KEY = "sk-bench-7c1f0a3e9d5b48a2"
CONNECTIONS = (1, 16, 64)
READY_LIMIT_S = 120
PROMISES = (("litellm", 1, 10.0), ("litellm", 16, 15.0), ("serve-haproxy", 1, 0.85), ("serve-haproxy", 16, 0.85))
"""Side, connections, and how many times its requests a second the gateway's own door must reach."""


def main() -> int:
    options = _options()
    rows: list[dict[str, Any]] = []
    for side in options.sides:
        rows += _measure(side, options)
        for row in rows[-len(CONNECTIONS) * 2 :]:
            _print_row(row)
    (options.folder / "bench-gateway.json").write_text(json.dumps(rows, indent=1))
    for line in _added(rows):
        print(line)
    return _judge(rows)


def _added(rows: list[dict[str, Any]]) -> list[str]:
    """Return what each side adds to the engine alone, unary, at each number of connections."""
    alone = {row["connections"]: row for row in rows if row["side"] == "upstream" and not row["stream"]}
    return [
        f"{row['side']:16} adds c={row['connections']:<3}"
        + "".join(f" {p} {row[f'{p}_us'] - alone[row['connections']][f'{p}_us']:>8}" for p in ("p50", "p95", "p99"))
        + " us"
        for row in rows
        if row["side"] != "upstream" and not row["stream"] and row["connections"] in alone
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-gateway"))
    parser.add_argument("--duration-s", type=float, default=5.0)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    return options


def _measure(side: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    port = _free_port()
    started = [_start("upstream", port + 5, options.folder)] if side == "litellm" else []
    try:
        started.append(_litellm(port, options.folder) if side == "litellm" else _start(side, port, options.folder))
        key = MASTER_KEY if side == "litellm" else KEY
        _wait_until_it_answers(port, key, started[-1])
        rows = []
        for stream in (False, True):
            for connections in CONNECTIONS:
                load = Load(
                    port=port,
                    connections=connections,
                    duration_s=options.duration_s,
                    key=key,
                    model=MODEL,
                    stream=stream,
                )
                rows.append({"side": side} | _load(load) | {"memory_mib": _memory_mib(started)})
        return rows
    finally:
        for process in reversed(started):
            _stop(process)


def _load(load: Load) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.gateway_load", json.dumps(asdict(load))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def _start(side: str, port: int, folder: Path) -> subprocess.Popen[bytes]:
    own = folder / side
    own.mkdir(exist_ok=True)
    with (own / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.gateway_sides", side, str(port), str(own)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _litellm(port: int, folder: Path) -> subprocess.Popen[bytes]:
    own = folder / "litellm"
    if not (own / "bin" / "litellm").exists():
        subprocess.run([*_uv(), "venv", "-q", "--clear", str(own)], check=True)
        pip = [*_uv(), "pip", "install", "-q", "-p", str(own), "--only-binary", ":all:", LITELLM]
        subprocess.run(pip, check=True)
    upstream = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{port + 5}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": upstream}],
        "general_settings": {"master_key": MASTER_KEY},
        "litellm_settings": {"num_retries": 0, "telemetry": False},
    }
    (own / "config.yaml").write_text(json.dumps(config))
    inherited = dict(os.environ)  # noqa: TID251  # handed on to a program that is not ours
    with (own / "log").open("wb") as log:
        return subprocess.Popen(
            [own / "bin" / "litellm", "--config", own / "config.yaml", "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=inherited | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
        )


def _uv() -> list[str]:
    """Return how uv is called: as a module of this environment, else as a program."""
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else ["uv"]


def _wait_until_it_answers(port: int, key: str, process: subprocess.Popen[bytes]) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    ends_at = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < ends_at:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}; see its log")
        try:
            url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"authorization": f"Bearer {key}"}
            if httpx.post(url, json=body, headers=headers, timeout=10).status_code == 200:
                asyncio.run(asyncio.sleep(4))  # what starts in the background has started
                return
        except httpx.HTTPError:
            pass
        asyncio.run(asyncio.sleep(0.5))
    raise TimeoutError(f"{process.args} does not answer")


def _memory_mib(started: list[subprocess.Popen[bytes]]) -> int:
    """Proportional set size of the processes and all that they started: shared pages count once."""
    return sum(_pss_kib(each) for each in _family({process.pid for process in started})) >> 10


def _family(roots: set[int]) -> set[int]:
    """Return the processes and all their descendants that are alive."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found = set(roots)
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _pss_kib(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = _family({process.pid}) - {process.pid}
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                continue
    for child in family & _family(family):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _free_port() -> int:
    """Return a port that is free together with the few after it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1]) // 10 * 10


def _print_row(row: dict[str, Any]) -> None:
    kind = "stream" if row["stream"] else "unary "
    print(  # the result
        f"{row['side']:16} {kind} c={row['connections']:<3} {row['requests_per_s']:>9.1f}/s  p50 {row['p50_us']:>8} "
        f"p95 {row['p95_us']:>8} p99 {row['p99_us']:>8} us  first {row['first_p50_us']:>8} us  "
        f"{row['tokens_per_s']:>8} tok/s  {row['memory_mib']:>5} MiB  not ok {row['not_ok']}",
        flush=True,
    )


def _judge(rows: list[dict[str, Any]]) -> int:
    by = {(row["side"], row["connections"]): row["requests_per_s"] for row in rows if not row["stream"]}
    missed = sum(row["not_ok"] for row in rows)
    for side, connections, wanted in PROMISES:
        ours, theirs = by.get(("partage-door", connections)), by.get((side, connections))
        if ours is None or theirs is None:
            continue
        ratio = ours / theirs
        verdict = "kept" if ratio >= wanted else "MISSED"
        missed += ratio < wanted
        print(f"{ratio:6.1f} times {side} at {connections} connections, promised {wanted}: {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
