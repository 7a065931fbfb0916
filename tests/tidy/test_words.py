"""What the documents say is true: commands parse, codes are the ones that exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer.main
from typer._click.core import Command, Context  # Typer carries its own click
from typer.core import TyperGroup

from cluster.api.problems import STATUS_OF
from cluster.cli.commands import WITHIN
from cluster.cli.exits import Exit
from cluster.cli.main import Commands, application, as_command, completed
from cluster.refusals import Refusal

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "runbooks/**/*.md")
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts
)


def quoted() -> Iterator[tuple[str, str]]:
    """Yield every command line of ours that a document quotes, with the document's name."""
    for path in DOCUMENTS:
        text = path.read_text()
        lines = [
            line.strip().removeprefix("$ ") for line in text.splitlines() if line.startswith(("    ", "partage ", "$ "))
        ]
        lines += re.findall(r"`(partage [^`]+)`", text)
        for line in lines:
            if line.startswith("partage "):
                yield path.name, line.split("   #")[0].split(" # ")[0].split(" | ")[0].strip()


def declared() -> dict[str, Command]:
    """Return the commands that pyproject.toml declares for other packages, whether or not they are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = project.get("entry-points", {}).get("partage.commands", {})
    found = {name: EntryPoint(name, target, "partage.commands").load() for name, target in entries.items()}
    made = {name: as_command(app, name) for name, app in found.items()}
    return {name: completed(command, name) if name in WITHIN else command for name, command in made.items()}


def resolved(command: Command, words: list[str]) -> str:
    """Return why the words do not lead to a command with such options; empty if they do."""
    context = Context(command)
    while words and isinstance(command, TyperGroup):
        if words[0].startswith("-"):
            return "" if words[0] in {"--help", "--version", "--install-completion"} else f"unknown option {words[0]}"
        is_root = isinstance(command, Commands)
        found = (declared().get(words[0]) if is_root else None) or command.get_command(context, words[0])
        if found is None:
            return f"no command {words[0]!r}"
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    unknown = [
        word
        for word in words
        if word.startswith("-") and len(word) > 1 and word.split("=")[0] not in known | {"--help"}
    ]
    return f"unknown options {unknown}" if unknown else ""


@pytest.mark.parametrize(("document", "line"), sorted(set(quoted())))
def test_every_command_that_a_document_quotes_exists(document: str, line: str) -> None:
    root = typer.main.get_command(application())
    words = [re.split(r"[|]", word)[0] for word in shlex.split(line)[1:]]
    assert not resolved(root, words), f"{document} quotes `{line}`: {resolved(root, words)}"


def every_refusal(kind: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    """Yield every class of refusal that is loaded."""
    yield kind
    for below in kind.__subclasses__():
        yield from every_refusal(below)


def test_every_code_of_the_api_is_documented_with_its_status() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE))
    assert {code: str(status) for code, status in STATUS_OF.items()} == table


def test_every_refusal_of_the_control_plane_has_a_status() -> None:
    import cluster.refusals as known

    codes = {kind.code for kind in every_refusal() if kind.__module__ == known.__name__}
    assert codes <= set(STATUS_OF)


def test_every_exit_status_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert all(re.search(rf"\b{status.value}\b", text) for status in Exit)


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{path.name}: {target}"
        for path in DOCUMENTS
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert not broken


def test_commands_of_other_packages_join_under_names_of_their_own() -> None:
    assert not set(declared()) & set(typer.main.get_command(application()).commands)  # type: ignore[attr-defined]  # a group
