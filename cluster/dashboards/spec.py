"""What a dashboard says, apart from how Grafana wants it written: boards of rows of panels of queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PanelKind = Literal["lines", "stack", "number", "table", "heat", "bars", "states"]
Width = Literal[4, 6, 8, 12, 24]

GRID_COLUMNS = 24
"""Columns of Grafana's grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One PromQL expression and the name of its series."""

    expr: str
    legend: str = ""
    """Grafana legend template such as ``{{tenant}}``; empty shows all labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """From this value on, the panel takes this colour and says so."""

    at: float
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One question that a screen answers."""

    kind: PanelKind
    title: str
    asks: str
    """The question in words, and what to do about a bad answer: the panel's description."""
    queries: tuple[Query, ...]
    unit: str = "short"
    """Grafana unit id: ``s``, ``percentunit``, ``watt``, ``celsius``, ``mbytes``, ``bool_yes_no``, ``short``."""
    width: Width = 12
    height: int = 8
    limits: tuple[Limit, ...] = ()
    """Ascending; below the first the panel is green."""
    words: tuple[tuple[str, str], ...] = ()
    """Value to word, for numbers that stand for a state."""
    hides: tuple[str, ...] = ()
    """Columns of a table that say nothing to a reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels that answer one kind of question."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A variable at the top of the dashboard, filled from the values of a label."""

    name: str
    metric: str
    label: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    purpose: str
    rows: tuple[Row, ...]
    choices: tuple[Choice, ...] = ()
    tags: tuple[str, ...] = ("partage",)

    def panels(self) -> tuple[Panel, ...]:
        """Return every panel, top to bottom, left to right."""
        return tuple(panel for row in self.rows for panel in row.panels)

    def expressions(self) -> tuple[str, ...]:
        """Return every PromQL expression, in the order of the panels."""
        return tuple(query.expr for panel in self.panels() for query in panel.queries)
