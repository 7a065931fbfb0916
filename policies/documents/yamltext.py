"""YAML text to plain values that remember their place. Accepts a small, safe part of YAML and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from policies.documents.errors import DocumentInvalid

TEXT_LIMIT = 2_000_000
"""Characters of one file; the largest shipped policy is a hundredth of it."""
NODE_LIMIT = 200_000
DEPTH_LIMIT = 32
DIGITS_LIMIT = 19
"""Digits of one whole number: more than any count or time needs, and less than 64 bits hold."""
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Located:
    """One document and the line and column (both from 1) of each of its values, by path."""

    value: Any
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def place(self, path: Path) -> tuple[int, int]:
        """Return where the value is, or its nearest container when it is missing."""
        while path not in self.places and path:
            path = path[:-1]
        return self.places.get(path, (1, 1))


@dataclass(slots=True)
class _Reader:
    file: str
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    count: int = 0

    def refuse(self, mark: Any, path: Path, fault: str) -> DocumentInvalid:
        line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        return DocumentInvalid(self.file, line, column, ".".join(map(str, path)), fault)


def documents(text: str, file: str) -> tuple[Located, ...]:
    """Return the documents of the text.

    Refuses, each with its line and column: tabs as indentation, a byte order mark, anchors and aliases (so nothing can
    expand), tags, duplicate and non-text keys, non-finite numbers, and anything beyond the limits of this module.
    """
    reader = _Reader(file)
    _refuse_odd_text(reader, text)
    try:
        _refuse_references(reader, text)
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        raise reader.refuse(error.problem_mark or error.context_mark, (), error.problem or "not YAML") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        raise DocumentInvalid(
            file, line, column, "", f"the character U+{error.character:04X} is not accepted"
        ) from None
    except yaml.YAMLError as error:
        raise reader.refuse(None, (), str(error).splitlines()[0]) from None
    found = []
    for node in nodes:
        reader.places = {}
        if node is not None:
            found.append(Located(_value(reader, node, ()), reader.places))
    return tuple(found)


def _refuse_odd_text(reader: _Reader, text: str) -> None:
    if len(text) > TEXT_LIMIT:
        raise reader.refuse(None, (), f"longer than {TEXT_LIMIT} characters")
    if text.startswith("\ufeff"):
        raise reader.refuse(None, (), "starts with a byte order mark; save it as UTF-8 without one")
    for number, line in enumerate(text.splitlines(), start=1):
        indent = len(line) - len(line.lstrip(" \t"))
        if "\t" in line[:indent]:
            raise DocumentInvalid(reader.file, number, line.index("\t") + 1, "", "indented with a tab; use spaces")


def _refuse_references(reader: _Reader, text: str) -> None:
    """Look at the events first: composing is only safe once there is nothing to expand and no deep nesting."""
    for count, (event, depth) in enumerate(_events(text)):
        if count > NODE_LIMIT:
            raise reader.refuse(event.start_mark, (), f"more than {NODE_LIMIT} values")
        if depth > DEPTH_LIMIT:
            raise reader.refuse(event.start_mark, (), f"nested deeper than {DEPTH_LIMIT}")
        if getattr(event, "anchor", None) is not None:
            raise reader.refuse(event.start_mark, (), "anchors and aliases are not accepted; write the value out")
        if getattr(event, "tag", None) is not None:
            raise reader.refuse(event.start_mark, (), "tags are not accepted; write plain values")


def _events(text: str) -> Iterator[tuple[yaml.Event, int]]:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        yield event, depth


def _value(reader: _Reader, node: yaml.Node, path: Path) -> Any:
    mark = node.start_mark
    reader.places[path] = (mark.line + 1, mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(reader, node, path)
    if isinstance(node, yaml.SequenceNode):
        return [_value(reader, item, (*path, index)) for index, item in enumerate(node.value)]
    return _scalar(reader, node, path)


def _mapping(reader: _Reader, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value
        if not isinstance(key_node, yaml.ScalarNode) or not isinstance(key, str) or key_node.tag.endswith(":merge"):
            raise reader.refuse(key_node.start_mark, path, "keys are plain text")
        if key in found:
            raise reader.refuse(key_node.start_mark, (*path, key), "this key occurs twice")
        found[key] = _value(reader, value_node, (*path, key))
        reader.places[(*path, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
    return found


def _scalar(reader: _Reader, node: yaml.Node, path: Path) -> Any:
    kind, text = node.tag.rsplit(":", 1)[-1], str(node.value)
    if kind == "str":
        return text
    if kind == "int":
        return _whole(reader, node, path, text)
    if kind == "bool":
        return text.lower() in ("true", "yes", "on")
    if kind == "null":
        return None
    if kind == "timestamp":
        return text
    raise reader.refuse(node.start_mark, path, f"{text!r} is a {kind}; amounts are whole numbers, text goes in quotes")


def _whole(reader: _Reader, node: yaml.Node, path: Path, text: str) -> int:
    digits = text.replace("_", "").lstrip("+-")
    if not digits.isdecimal() or len(digits) > DIGITS_LIMIT or (len(digits) > 1 and digits[0] == "0"):
        raise reader.refuse(
            node.start_mark, path, f"{text!r} is not a plain decimal number of up to {DIGITS_LIMIT} digits"
        )
    return int(text.replace("_", ""))
