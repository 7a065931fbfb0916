"""The process on each GPU node: telemetry, the node's report, scrubs. `python -m cluster.kubernetes.agent --help`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from random import Random  # noqa: TID251 - seeded below, for jitter only
from typing import Any

import httpx

from cluster.clock import SystemClock
from cluster.kubernetes.api import Api, Connection
from cluster.kubernetes.pod_resources import KubeletSilent, holders
from cluster.kubernetes.reporter import Eyes, Reporter
from cluster.observe.nvml import Inventory, inventory
from cluster.observe.telemetry.agent import Agent
from cluster.observe.telemetry.daemon import Daemon, serve
from cluster.observe.telemetry.scrub_device import NvmlDevice
from cluster.observe.telemetry.sender import Sender
from cluster.observe.telemetry.store import TelemetryStore
from cluster.refusals import Refusal
from policies.model.snapshot import Gap
from policies.model.units import DeviceId, NodeId

log = logging.getLogger("partage.agent")
Object = dict[str, Any]
CANNOT_START = 1
ROUND_S = 3.0


class NvmlEyes:
    """Devices through NVML, holders through the kubelet. What cannot be seen is None, never nothing."""

    def __init__(self, node: NodeId, socket: Path) -> None:
        self._node, self._socket = node, socket
        self._seen: Inventory | None = None

    def devices(self) -> tuple[str, list[Object]] | None:
        """Return driver and devices; None while NVML does not answer."""
        found = inventory(self._node)
        if isinstance(found, Gap):
            log.warning("the devices are not seen: %s", found.cause)
            return None
        self._seen = found
        return found.driver, described(found)

    def holders(self) -> Mapping[str, str] | None:
        """Return the pod of each device given out; None while the kubelet does not say."""
        try:
            return holders(self._socket)
        except KubeletSilent as silent:
            log.warning("%s", silent)
            return None

    def open_device(self, device: DeviceId) -> NvmlDevice | None:
        """Return the device as scrubbing needs it."""
        facts = self._seen.facts if self._seen else ()
        fact = next((each for each in facts if each.device == device), None)
        return NvmlDevice(fact, facts) if fact else None


def described(found: Inventory) -> list[Object]:
    """Return the devices in the words of the NodeDevices status."""
    facts = {fact.device: fact for fact in found.facts}
    return [
        {
            "uuid": device.id,
            "gpu": device.gpu,
            "model": facts[device.id].name,
            "memoryMiB": device.memory_mib,
            "health": device.health.value,
            "simulated": device.simulated,
        }
        | ({"migProfile": facts[device.id].mig_profile} if facts[device.id].mig_profile else {})
        | ({"island": device.island} if device.island else {})
        for device in found.devices
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM; a scrub under way is finished. The exit status says why it ended."""
    chosen = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        connection = Connection.from_inside()
    except Refusal as refusal:
        log.error("cannot start (%s): %s", refusal.code, refusal)  # noqa: TRY400  # a refusal explains itself
        return CANNOT_START
    _run(chosen, connection)
    return 0


def _run(chosen: argparse.Namespace, connection: Connection) -> None:
    clock, node = SystemClock(), NodeId(chosen.node)
    store = TelemetryStore(clock)
    token = Path(chosen.token_file).read_text(encoding="utf-8").strip()
    client = httpx.Client(base_url=chosen.push, headers={"authorization": f"Bearer {token}"})
    daemon = Daemon(Agent(node, uuid.uuid4().hex[:12], clock), store, clock, Sender(client=client, clock=clock))
    host, _, port = chosen.listen.rpartition(":")
    server = serve(daemon, store, clock, (host, int(port)))
    eyes = NvmlEyes(node, Path(chosen.pod_resources))
    api = Api(connection, clock, Random(chosen.node))  # noqa: S311 - jitter
    reporter = Reporter(
        api=api,
        clock=clock,
        node=node,
        eyes=Eyes(devices=eyes.devices, holders=eyes.holders, open_device=eyes.open_device),
        period_ms=chosen.report_seconds * 1000,
    )
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    daemon.start()
    while not stopping.is_set():
        reporter.round()
        stopping.wait(ROUND_S)
    reporter.wait()
    daemon.stop()
    server.shutdown()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cluster.kubernetes.agent", description=__doc__)
    parser.add_argument("--node", required=True, help="name of this node")
    parser.add_argument("--push", required=True, metavar="URL", help="the control plane")
    parser.add_argument("--token-file", required=True, help="file with the agent's token")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="where to serve /metrics and /healthz")
    parser.add_argument("--report-seconds", type=int, default=30, help="between two reports when nothing changed")
    parser.add_argument(
        "--pod-resources", default="/var/lib/kubelet/pod-resources/kubelet.sock", help="kubelet's socket"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
