"""The command line: every command in one table, loaded when asked for; errors are sentences with an exit status."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
import typer.core
import typer.main
from typer._click.core import Command, Context  # Typer carries its own click and does not export these five
from typer._click.exceptions import ClickException, UsageError
from typer._click.formatting import HelpFormatter
from typer._completion_classes import completion_init

from cluster.cli.commands import COMMANDS, WITHIN, found_at, load
from cluster.cli.door import overview
from cluster.cli.exits import Exit, exit_of
from cluster.cli.screen import say

OTHERS_SHOWN = 20
"""Further faults of one document that are listed."""
GROUP = "partage.commands"
ABSENT = "comes with the package `serving`, which is not installed here: install partage again, whole"


class Commands(typer.core.TyperGroup):
    """The table, completed by other packages' commands. A module is imported when its command is asked for."""

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002  # as the base class has it
        """Return the command of that name, looking into other packages for names that are not ours."""
        found = load(cmd_name)
        return _brought(cmd_name) if found is None else as_command(found, cmd_name)

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002  # as the base class has it
        """Return every name, ours first."""
        return [*COMMANDS, *(name for name in _names_brought() if name not in COMMANDS)]

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002  # as the base class has it
        """Write the first screen, without loading any command."""
        formatter.write(overview(tuple(name for name in _names_brought() if name not in COMMANDS)))

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Return the command; an unknown name is answered with the nearest known one."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            if name in COMMANDS:
                raise UsageError(f"`{name}` {ABSENT}", ctx)
            raise UsageError(_unknown(name, self.list_commands(ctx), "partage"), ctx)
        return super().resolve_command(ctx, args)


def _unknown(name: str, known: list[str], group: str) -> str:
    """Return what is told of a name that is no command: the nearest one, or where they are listed."""
    import difflib

    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"`{group} --help` lists the commands"
    return f"there is no command {name!r}; {hint}"


class Group(typer.core.TyperGroup):
    """A group of commands that answers an unknown name with the nearest known one."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Return the command; an unknown name is answered with the nearest known one."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UsageError(_unknown(args[0], self.list_commands(ctx), ctx.command_path), ctx)
        return super().resolve_command(ctx, args)


class Part(typer.core.TyperGroup):
    """Our commands of a group whose other commands come with a package that is not installed."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Return the command; say of any other where it comes from."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UsageError(f"`{self.name} {args[0]}` {ABSENT}", ctx)
        return super().resolve_command(ctx, args)


def as_command(found: Any, name: str) -> Command:
    """Return the command that a function or a group of commands makes under the name."""
    command: Command
    if isinstance(found, typer.Typer):
        found.rich_markup_mode = None
        found.info.cls = Group
        command = typer.main.get_group(found)
    else:
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name)(found)
        command = typer.main.get_command(alone)
    command.name = name
    return command


def _names_brought() -> list[str]:
    from importlib.metadata import entry_points

    return sorted(found.name for found in entry_points(group=GROUP))


def _brought(name: str) -> Command | None:
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group=GROUP, name=name)), None)
    command = None if found is None else as_command(found.load(), name)
    return command if name not in WITHIN else completed(command, name)


def completed(command: Command | None, name: str) -> Command:
    """Return another package's group with our commands in it; ours alone where that package is not installed."""
    ours = {each: as_command(found_at(where), each) for each, where in WITHIN[name].items()}
    group = (
        command if isinstance(command, typer.core.TyperGroup) else Part(name=name, commands={}, no_args_is_help=True)
    )
    for each, made in ours.items():
        group.add_command(made, each)
    return group


def _root(
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask back: do what the command says.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    """Shares the GPUs of one cloud between security domains: decides, explains, moves and proves."""
    from cluster.cli import asking

    asking.never_ask(no_input)
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"partage {version_of('partage')}")
        raise typer.Exit


def application() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="partage",
        cls=Commands,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True)(_root)
    completion_init()
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
        for other in getattr(error, "others", ())[:OTHERS_SHOWN]:
            say(f"  {other}")
        for fault in getattr(error, "body", {}).get("errors", [])[1:]:
            say(f"  {fault.get('pointer', '')}: {fault.get('detail', '')}")
    elif isinstance(error, OSError):
        say(f"error: {error.filename or 'file'}: {error.strerror or error}")
    else:
        say(f"error ({type(error).__name__}): {error}")
    return exit_of(error)


if __name__ == "__main__":
    run()
