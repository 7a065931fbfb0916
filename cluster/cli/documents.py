"""Files that a person hands to a command: read whole, and what is wrong with them said in one place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from policies.model.policy import Policy
    from policies.model.snapshot import Snapshot

T = TypeVar("T")
FAULTS_SHOWN = 20


class NotText(Exception):
    """A file that should hold text holds something else."""

    code = "not_text"

    def __init__(self, file: str, position: int) -> None:
        super().__init__(file, position)
        self.file, self.position = file, position

    def __str__(self) -> str:
        return f"{self.file} is no text in UTF-8: byte {self.position} cannot be read; save it as UTF-8"


class FileInvalid(Exception):
    """A JSON file does not hold the noun that the command reads from it."""

    code = "file_invalid"

    def __init__(self, file: str, noun: str, faults: tuple[tuple[str, str], ...]) -> None:
        super().__init__(file, noun, faults)
        self.file, self.noun, self.faults = file, noun, faults

    def __str__(self) -> str:
        told = [f"{pointer}: {fault}" if pointer else fault for pointer, fault in self.faults[:FAULTS_SHOWN]]
        more = len(self.faults) - FAULTS_SHOWN
        lines = [f"{self.file} holds no {self.noun}; `partage schema {self.noun}` says what one is", *told]
        return "\n  ".join([*lines, f"and {more} more"] if more > 0 else lines)


def text_in(file: Path) -> str:
    """Return the text of a file, or of standard input for ``-``. Raises ``OSError`` and ``NotText``."""
    raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotText(str(file), error.start) from None


def noun_in(noun: type[T], file: Path) -> T:
    """Return the noun that the JSON file holds. Raises ``FileInvalid`` with every fault and its pointer."""
    return noun_of(noun, text_in(file), str(file))


def noun_of(noun: type[T], text: str, file: str) -> T:
    """Return the noun that the JSON text holds, as strictly as its schema says. Raises ``FileInvalid``."""
    from pydantic import ValidationError

    from policies.documents.document import faults_in
    from policies.model.codec import from_json_strict

    name = noun.__name__.lower()
    if fault := _fault_of_json(text):
        raise FileInvalid(file, name, (("", fault),))
    try:
        return from_json_strict(noun, text)
    except ValidationError as error:
        found = tuple((_pointer(path[1:]), fault) for path, fault in faults_in(error))
        raise FileInvalid(file, name, found) from None


def _fault_of_json(text: str) -> str:
    """Return why the text is not one plain JSON value; empty if it is."""
    import json

    twice: list[str] = []

    def named_once(pairs: list[tuple[str, object]]) -> None:
        names = [name for name, _ in pairs]
        twice.extend(name for name in names if len(set(names)) < len(names) and names.count(name) > 1)

    try:
        json.loads(text, object_pairs_hook=named_once)
    except json.JSONDecodeError as error:
        return f"line {error.lineno}, column {error.colno}: this is not JSON: {error.msg}"
    except RecursionError:
        return "nested too deep"
    except ValueError:
        return "a number has more digits than any count"
    return f"the field {twice[0]} occurs twice in one object" if twice else ""


def snapshot_in(file: Path) -> Snapshot:
    """Return the snapshot that the file holds, sound in itself. Raises ``FileInvalid``."""
    from policies.documents.soundness import faults_of_snapshot
    from policies.model.snapshot import Snapshot

    seen = noun_in(Snapshot, file)
    if faults := tuple((_pointer(path), fault) for path, fault in faults_of_snapshot(seen)):
        raise FileInvalid(str(file), "snapshot", faults)
    return seen


def policy_in(file: Path) -> Policy:
    """Return the policy that the file describes, in YAML or as JSON, sound in itself.

    Raises ``DocumentInvalid`` for YAML, ``FileInvalid`` for JSON.
    """
    from policies.documents.document import parse_policy
    from policies.documents.soundness import faults_of_policy
    from policies.model.policy import Policy

    text = text_in(file)
    if not text.lstrip().startswith("{") or _has_envelope(text):
        return parse_policy(text, str(file))
    policy = noun_of(Policy, text, str(file))
    if faults := tuple((_pointer(path), fault) for path, fault in faults_of_policy(policy)):
        raise FileInvalid(str(file), "policy", faults)
    return policy


def _has_envelope(text: str) -> bool:
    """Say whether the JSON is a document with apiVersion, kind and spec, and not the policy alone."""
    import json

    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "apiVersion" in found


def _pointer(path: tuple[str | int, ...]) -> str:
    return "".join(f"/{part}" for part in path)
