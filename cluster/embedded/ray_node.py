"""``python -m cluster.embedded.ray_node SPEC``: one Ray node, head or worker, on the loopback interface alone.

Does what ``ray start --block`` does, with the same classes of Ray. That command replaces a loopback address by the
host's public one, and on loopback it refuses a second node. Not loading it also halves the time of a start.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from policies.model.codec import from_json
from policies.model.units import SecurityDomain

POLL_S = 0.5
RAYLET_ENDED = 4
MAX_WORDS = 600
PORTS_PER_NODE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One Ray node."""

    domain: SecurityDomain
    gcs_port: int
    """Of the domain's control service, on this machine."""
    dashboard_port: int | None = None
    """Of the dashboard, on the head; None makes a worker."""
    temp: str
    """Short path: Ray makes Unix sockets below it."""
    ports: tuple[int, ...]
    """Node manager, object manager, dashboard agent (HTTP, gRPC), runtime environment agent, metrics."""
    labels: tuple[tuple[str, str], ...]
    cpus: int
    gpus: int
    object_store_bytes: int


def main(arguments: list[str]) -> None:
    """Run the node until one of its processes ends or SIGTERM comes; then none of them is left."""
    # Ray then takes the loopback address for this node's own, in every process that it starts.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # noqa: TID251  # read by Ray when it is imported, below
    services: Any = import_module("ray._private.services")
    services.resolve_ip_for_localhost = lambda host: host
    node_class = _node_class()
    spec = from_json(NodeSpec, arguments[1])
    threading.Thread(target=_leave_with_raylet, args=(spec.temp,), name="raylet-watch", daemon=True).start()
    head = spec.dashboard_port is not None
    node = node_class(_parameters(spec), head=head, shutdown_at_exit=True, spawn_reaper=True, connect_only=False)
    while not node.dead_processes():
        time.sleep(POLL_S)  # noqa: TID251  # a process of its own, outside of every simulation
    sys.stderr.write(f"ended: {[kind for kind, _ in node.dead_processes()]}\n")
    node.kill_all_processes(check_alive=False, allow_graceful=False)
    os._exit(1)


def _node_class() -> Any:
    """Return Ray's node, except that its raylet finds the ports of its agents written down already.

    They are fixed here. A raylet otherwise waits for its agents to write them, which costs each start the agents'
    imports, and gives up after 15 s, which an overloaded machine needs for them. Later calls to an agent are repeated.
    """
    native: Any = import_module("ray._raylet")
    base: Any = import_module("ray._private.node").Node

    def start_raylet(node: Any, *arguments: Any, **named: Any) -> None:
        given = node._ray_params  # noqa: SLF001  # the class it stands in for reads it the same way
        for name, port in (
            (native.METRICS_AGENT_PORT_NAME, given.metrics_agent_port),
            (native.METRICS_EXPORT_PORT_NAME, given.metrics_export_port),
            (native.DASHBOARD_AGENT_LISTEN_PORT_NAME, given.dashboard_agent_listen_port),
            (native.RUNTIME_ENV_AGENT_PORT_NAME, given.runtime_env_agent_port),
        ):
            native.persist_port(node.get_session_dir_path(), node.node_id, name, port)
        base.start_raylet(node, *arguments, **named)

    return type("NodeWithKnownPorts", (base,), {"start_raylet": start_raylet})


def _leave_with_raylet(temp: str) -> None:
    """End this process, and by the kernel all of its children, once the raylet has ended.

    Ray's own start would go on waiting for it to answer.
    """
    was_there = False
    while True:
        found = _raylet()
        if found == "ended" or (was_there and found is None):
            sys.stderr.write(f"the raylet ended: {_last_words(temp)}\n")
            os._exit(RAYLET_ENDED)
        was_there = found is not None
        time.sleep(POLL_S)  # noqa: TID251  # a process of its own, outside of every simulation


def _last_words(temp: str) -> str:
    """Return what the raylet that wrote last died of; Ray's folder of logs goes when the platform is taken down."""
    logs = [file for file in Path(temp, "session_latest", "logs").glob("raylet*.err") if file.stat().st_size]
    if not logs:
        return "it left no word"
    lines = max(logs, key=lambda file: file.stat().st_mtime).read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in lines if "Check failed" in line), lines[-1])[:MAX_WORDS]


def _raylet() -> str | None:
    """Return whether the raylet ``runs`` or has ``ended``; None while there is none."""
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            try:
                name, _, rest = (
                    Path(f"/proc/{child}/stat").read_text(encoding="utf-8").partition("(")[2].rpartition(")")
                )
            except OSError:
                continue
            if name == "raylet":
                return "ended" if rest.strip().startswith("Z") else "runs"
    return None


def _parameters(spec: NodeSpec) -> Any:
    node, objects, agent_http, agent_grpc, environments, metrics = spec.ports
    parameters: Any = import_module("ray._private.parameter").RayParams(
        node_ip_address="127.0.0.1",
        node_name="127.0.0.1",
        num_cpus=spec.cpus,
        num_gpus=spec.gpus,
        object_store_memory=spec.object_store_bytes,
        temp_dir=spec.temp,
        labels=dict(spec.labels),
        include_log_monitor=False,
        no_monitor=True,
        node_manager_port=node,
        object_manager_port=objects,
        dashboard_agent_listen_port=agent_http,
        metrics_agent_port=agent_grpc,
        runtime_env_agent_port=environments,
        metrics_export_port=metrics,
    )
    if spec.dashboard_port is None:
        parameters.gcs_address = f"127.0.0.1:{spec.gcs_port}"
    else:
        parameters.include_dashboard = True
        parameters.dashboard_host = "127.0.0.1"
        parameters.dashboard_port = spec.dashboard_port
        parameters.gcs_server_port = spec.gcs_port
    return parameters


if __name__ == "__main__":
    main(sys.argv)
