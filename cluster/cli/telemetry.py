"""`partage telemetry` and `partage top`: what NVML says of this machine, now or as it goes."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.exits import Exit
from cluster.cli.reading import ContextName, OutputKind, TokenFile
from cluster.cli.screen import Output, say

if TYPE_CHECKING:
    from cluster.observe.telemetry.agent import Agent
    from cluster.observe.telemetry.sender import Sender
    from policies.model.telemetry import NodeReport

GPM_PAUSE_MS = 250
"""SM activity is what happened between two samples; NVML wants more than 100 ms between them."""


def telemetry(
    once: Annotated[bool, typer.Option("--once", help="Look once and leave.")] = False,
    output: OutputKind = Output.TABLE,
    push: Annotated[str | None, typer.Option("--push", metavar="URL", help="Report to this control plane.")] = None,
    token_file: Annotated[Path | None, typer.Option("--token-file", help="File with the agent's token.")] = None,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Serve /metrics and /healthz there.")
    ] = None,
    node: Annotated[str | None, typer.Option("--node", help="Name of this node, if not the host's.")] = None,
) -> None:
    """Show what is seen of this machine's GPUs, every reading with its value or the reason why there is none.

    Example: partage telemetry --once -o json
    """
    if not once and push is None and listen is None:
        msg = "say --once, or where to report with --push or --listen"
        raise typer.BadParameter(msg)
    if once:
        _once(_agent(node), output)
        return
    _forever(_agent(node), _sender(push, token_file), _address(listen))


def top(
    interval: Annotated[float, typer.Option("--interval", "-i", min=0.25, help="Seconds between frames.")] = 1.0,
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="Leave after so many frames.")] = None,
) -> None:
    """Watch the GPUs of this machine; fits in 80 columns. Ctrl-C leaves.

    Example: ssh gpu-node-7 partage top
    """
    from rich.console import Console
    from rich.live import Live

    from cluster.clock import SystemClock
    from cluster.observe.telemetry.top import screen

    console, clock = Console(), SystemClock()
    agent = _agent(None)
    try:
        report = agent.look()
        with Live(screen(report), console=console, auto_refresh=False, screen=console.is_terminal) as live:
            shown = 1
            while frames is None or shown < frames:
                clock.sleep_ms(int(interval * 1000))
                report = agent.look()
                live.update(screen(report), refresh=True)
                shown += 1
        if report.missing is not None:
            raise typer.Exit(Exit.UNAVAILABLE)
    except KeyboardInterrupt:
        pass
    finally:
        agent.close()


def release(
    device: Annotated[str, typer.Argument(help="UUID of the GPU.")],
    reason: Annotated[str, typer.Option("--reason", help="What was done, for those who ask later.")],
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Trust a GPU again after you have looked at it; `partage get verdicts` says why it was taken out of use.

    Example: partage release GPU-5d1e... --reason "reseated and reset; nvidia-smi -q is clean"
    """
    from cluster.cli.contexts import connect

    connect(context, token_file).call("POST", f"/v1/devices/{device}/release", body={"reason": reason})
    say(f"{device} is suspect until it has been quiet for a minute, then healthy")


def _agent(node: str | None) -> Agent:
    import platform

    from cluster.clock import SystemClock
    from cluster.observe.telemetry.agent import Agent
    from policies.model.units import NodeId

    return Agent(NodeId(node or platform.node() or "localhost"), uuid.uuid4().hex[:12], SystemClock())


def _once(agent: Agent, output: Output) -> None:
    from cluster.clock import SystemClock

    first = agent.look()
    if first.missing is None:
        SystemClock().sleep_ms(GPM_PAUSE_MS)
    report = agent.look() if first.missing is None else first
    agent.close()
    _print(report, output)
    if report.missing is not None:
        raise typer.Exit(Exit.UNAVAILABLE)


def _print(report: NodeReport, output: Output) -> None:
    if output == Output.JSON:
        from policies.model.codec import to_json

        typer.echo(to_json(report, indent=2))
        return
    from rich.console import Console

    from cluster.observe.telemetry.top import screen

    Console().print(screen(report))


def _sender(push: str | None, token_file: Path | None) -> Sender | None:
    if push is None:
        return None
    if token_file is None:
        msg = "--push needs --token-file"
        raise typer.BadParameter(msg)
    import httpx

    from cluster.clock import SystemClock
    from cluster.observe.telemetry.sender import Sender

    token = token_file.read_text(encoding="utf-8").strip()
    client = httpx.Client(base_url=push, headers={"authorization": f"Bearer {token}"})
    return Sender(client=client, clock=SystemClock())


def _address(listen: str | None) -> tuple[str, int] | None:
    if listen is None:
        return None
    host, _, port = listen.rpartition(":")
    if not port.isdigit():
        msg = f"--listen {listen} is not HOST:PORT"
        raise typer.BadParameter(msg)
    return host or "127.0.0.1", int(port)


def _forever(agent: Agent, sender: Sender | None, address: tuple[str, int] | None) -> None:
    from cluster.clock import SystemClock
    from cluster.observe.telemetry.daemon import Daemon, serve
    from cluster.observe.telemetry.store import TelemetryStore

    clock = SystemClock()
    store = TelemetryStore(clock)
    daemon = Daemon(agent, store, clock, sender)
    server = None if address is None else serve(daemon, store, clock, address)
    say(f"telemetry of this node, once a second{'' if server is None else f'; metrics on port {server.server_port}'}")
    try:
        daemon.run()
    except KeyboardInterrupt:
        daemon.stop()
    finally:
        if server is not None:
            server.shutdown()
