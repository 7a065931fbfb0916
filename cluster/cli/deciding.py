"""Commands about what could be: offers, and modes that two people decide on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster.cli import completion
from cluster.cli.exits import Exit
from cluster.cli.reading import ContextName, OutputKind, TokenFile
from cluster.cli.screen import Column, Output, millis, say, show, span

mode_app = typer.Typer(help="Modes: declared by one person, in force once another approves.", no_args_is_help=True)


def offer(
    tenant: Annotated[str, typer.Argument(help="For whom, such as civil/justice.", autocompletion=completion.tenants)],
    model: Annotated[str | None, typer.Option(help="Model of the catalogue; else devices are asked for.")] = None,
    replicas: Annotated[int, typer.Option(min=1, help="How many replicas.")] = 1,
    devices: Annotated[int, typer.Option(min=1, help="Devices per replica.")] = 1,
    share: Annotated[int, typer.Option("--millis", min=1, max=1000, help="Thousandths of each device.")] = 1000,
    memory: Annotated[int, typer.Option("--memory-mib", min=0, help="Memory on each device.")] = 0,
    output: OutputKind = Output.TABLE,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Say what could be had now, and why not more. Nothing is reserved by asking.

    Example: partage offer civil/justice --replicas 2
    """
    from cluster.cli.contexts import connect
    from cluster.cli.texts import reason_text
    from cluster.clock import SystemClock

    wish = {
        "tenant": tenant,
        "model": model,
        "replicas": replicas,
        "devices": devices,
        "gpu_millis": share,
        "memory_mib": memory,
    }
    found = connect(context, token_file).call("POST", "/v1/offers", body=wish).body
    if output.is_data:
        show(found, [], output)
        return
    typer.echo(f"{found['granted_replicas']} of {found['wanted_replicas']} replicas could be had now")
    if found["variant"]:
        typer.echo(f"  as variant {found['variant']}")
    if found["borrowed_millis"] > 0:
        amount = millis(found["borrowed_millis"])
        what = (
            "1 device of it is borrowed: its owner" if amount == "1" else f"{amount} devices are borrowed: their owner"
        )
        typer.echo(f"  {what} may take it back")
    if found["displaces_others"] or found["displaces_own"]:
        own = f", and your own {', '.join(found['displaces_own'])}" if found["displaces_own"] else ""
        typer.echo(
            f"  others would give back what they borrow{own}" if found["displaces_others"] else f"  displaces{own[5:]}"
        )
    typer.echo("  " + reason_text(found["reason"], SystemClock().now_ms()).replace("\n", "\n  "))


@mode_app.command("show")
def show_mode(output: OutputKind = Output.TABLE, context: ContextName = None, token_file: TokenFile = None) -> None:
    """Show the mode in force and the declarations that wait for a second person."""
    from cluster.cli.contexts import connect

    _show(connect(context, token_file).get("/v1/modes"), output)


@mode_app.command("plan")
def plan_mode(
    mode: Annotated[str, typer.Argument(help="heightened or crisis; normal for what ending the mode would do")],
    output: OutputKind = Output.TABLE,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Show what a mode would do to the platform as it is; nothing is declared.

    Exit status: 0 nothing, 2 changes are due, 1 an error.
    """
    from cluster.cli.contexts import connect
    from cluster.cli.pure import show_preview

    show_preview(connect(context, token_file).call("POST", "/v1/modes/preview", body={"mode": mode}).body, output)


@mode_app.command("declare")
def declare_mode(
    mode: Annotated[str, typer.Argument(help="heightened or crisis")],
    hours: Annotated[int, typer.Option(min=1, max=168, help="How long it lasts once approved.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Declare a mode. It comes into force once another person approves it."""
    from cluster.cli.contexts import connect

    body = {"mode": mode, "hours": hours, "reason": reason}
    found = connect(context, token_file).call("POST", "/v1/modes", body=body).body
    say(f"declared; another person approves it within the hour: partage mode approve {found['id']}")
    typer.echo(found["id"])


@mode_app.command("approve")
def approve_mode(
    declaration: Annotated[str, typer.Argument(help="Name that `mode declare` printed.")],
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Approve what another person declared: it is in force from now on."""
    from cluster.cli.contexts import connect

    found = connect(context, token_file).call("POST", f"/v1/modes/{declaration}/approve").body
    mode = found["declaration"]
    say(
        f"{mode['mode']} is approved by {' and '.join(mode['approvers'])}; the next decision follows it: partage status"
    )


@mode_app.command("end")
def end_mode(context: ContextName = None, token_file: TokenFile = None) -> None:
    """Go back to normal before the mode expires; one person may."""
    from cluster.cli.contexts import connect

    connect(context, token_file).call("POST", "/v1/modes/end")
    say("the mode is ended: the policy's baseline is in force")


def doctor(output: OutputKind = Output.TABLE, context: ContextName = None, token_file: TokenFile = None) -> None:
    """Look for what is wrong, and say what to do about it. Exit status 1 if something is."""
    from cluster.cli.examination import examine

    found = [{"check": one.name, "ok": one.ok, "detail": one.detail} for one in examine(context, token_file)]
    columns = [
        Column(title="CHECK", cell=lambda row: row["check"]),
        Column(title="", cell=lambda row: "ok" if row["ok"] else "WRONG"),
        Column(title="DETAIL", cell=lambda row: row["detail"]),
    ]
    show(found, columns, output)
    if not all(row["ok"] for row in found):
        raise typer.Exit(Exit.ERROR)


def _show(found: dict[str, Any], output: Output) -> None:
    from cluster.clock import SystemClock

    if output.is_data:
        show(found, [], output)
        return
    now = SystemClock().now_ms()
    typer.echo(f"in force: {found['in_force']}")
    if found["declaration"]:
        mode = found["declaration"]
        left = span((mode["expires_at_ms"] - now) / 1000)
        typer.echo(f"  {mode['mode']}, approved by {' and '.join(mode['approvers'])}, ends in {left}: {mode['reason']}")
    for one in found["pending"]:
        what = f"{one['mode']} for {one['hours']} h by {one['declared_by']}: {one['reason']}"
        typer.echo(f"waits for approval: {one['id']} {what}")
