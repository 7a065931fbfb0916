"""The command line: every command in one table, loaded quickly, errors as sentences with an exit status."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from typing import Any

import typer
import typer.core
import typer.main
from typer._click.core import Command, Context  # Typer carries its own click and does not export these four
from typer._click.exceptions import ClickException, UsageError

from cluster.cli import (
    bench,
    configuring,
    console,
    dashboards,
    deciding,
    drill,
    platform,
    pure,
    reading,
    records,
    simulating,
    telemetry,
    writing,
)
from cluster.cli.exits import Exit, exit_of
from cluster.cli.screen import say

COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "up": platform.up,
    "down": platform.down,
    "demo": platform.demo,
    "status": reading.status,
    "get": reading.get,
    "describe": reading.describe,
    "why": reading.why,
    "shares": reading.shares,
    "events": reading.events,
    "apply": writing.apply,
    "diff": writing.diff,
    "delete": writing.delete,
    "offer": deciding.offer,
    "mode": deciding.mode_app,
    "drain": writing.drain,
    "uncordon": writing.uncordon,
    "adopt": writing.adopt,
    "policy": pure.policy_app,
    "plan": pure.plan,
    "decide": pure.decide,
    "check": pure.check,
    "schema": pure.schema,
    "snapshot": records.snapshot_app,
    "replay": records.replay,
    "simulate": simulating.simulate,
    "audit": records.audit_app,
    "key": configuring.key_app,
    "operator": configuring.operator_app,
    "context": configuring.context_app,
    "doctor": deciding.doctor,
    "dashboards": dashboards.app,
    "console": console.console,
    "drill": drill.app,
    "telemetry": telemetry.telemetry,
    "top": telemetry.top,
    "release": telemetry.release,
    "bench": bench.app,
}
"""Every command. Other packages add theirs through the entry point group ``partage.commands``."""

GROUP = "partage.commands"


class Commands(typer.core.TyperGroup):
    """The table, completed by other packages' commands when one of them is asked for."""

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Return the command of that name, looking into other packages for names not in the table."""
        found = super().get_command(ctx, cmd_name)
        return found or joined().get(cmd_name)

    def list_commands(self, ctx: Context) -> list[str]:
        """Return every name, ours first."""
        return [*super().list_commands(ctx), *sorted(joined())]

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Return the command; an unknown name is answered with the nearest known one."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx), 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else "`partage --help` lists the commands"
            raise UsageError(f"there is no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def joined() -> dict[str, Command]:
    """Return the commands that other packages bring, by name."""
    from importlib.metadata import entry_points

    return {found.name: as_command(found.load(), found.name) for found in entry_points(group=GROUP)}


def as_command(found: Callable[..., None] | typer.Typer, name: str) -> Command:
    """Return the command that an entry point named: a group of commands, or one function."""
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    alone = typer.Typer(rich_markup_mode=None)
    alone.command(name)(found)
    return typer.main.get_command(alone)


def application() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="partage",
        cls=Commands,
        help="Shares the GPUs of one cloud between security domains: decides, explains, moves and proves.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    for name, command in COMMANDS.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def run(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit status."""
    sys.exit(outcome(arguments))


def outcome(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status; every error is a sentence on stderr, never a stack trace."""
    command = typer.main.get_command(application())
    try:
        result: Any = command.main(args=arguments, prog_name="partage", standalone_mode=False)
    except typer.Exit as leaving:
        return leaving.exit_code
    except ClickException as error:
        error.show()
        return Exit.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        return Exit.OK
    except Exception as error:  # noqa: BLE001  # the edge of the program: what is known gets its sentence, the rest is named
        return _explain(error)
    return result if isinstance(result, int) else Exit.OK


def _explain(error: Exception) -> int:
    code = getattr(error, "code", None)
    if isinstance(code, str):
        say(f"error ({code}): {error}")
        for fault in getattr(error, "body", {}).get("errors", [])[1:]:
            say(f"  {fault.get('pointer', '')}: {fault.get('detail', '')}")
    elif isinstance(error, OSError):
        say(f"error: {error.filename or 'file'}: {error.strerror or error}")
    else:
        say(f"error ({type(error).__name__}): {error}")
    return exit_of(error)


if __name__ == "__main__":
    run()
