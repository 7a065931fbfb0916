"""Steps on a terminal: each with a spinner and its seconds while it runs, a tick and what all of ours weighs after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Board
from rich.progress import ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from cluster.embedded.progress import Step

NAME_WIDTH = 34


class Seconds(ProgressColumn):
    """Elapsed seconds, to a tenth."""

    def render(self, task: Task) -> Text:
        """Return the seconds since the step began, or that it took."""
        taken = task.finished_time if task.finished else task.elapsed
        return Text(f"{taken or 0:7.1f} s", style="bold" if not task.finished else "")


class Bars:
    """Hears of steps and draws them. Several may run at once."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._tasks: dict[str, TaskID] = {}

    def started(self, name: str) -> None:
        """Draw the step as running."""
        self._tasks[name] = self._board.add_task(name, total=1, weight="", note="")

    def finished(self, step: Step) -> None:
        """Draw the step as done, with what all of ours weighs now."""
        weight = f"{step.memory_mib:>6} MiB"
        self._board.update(self._tasks[step.name], completed=1, weight=weight, note=step.note)

    def failed(self, name: str, why: str) -> None:
        """Draw the step as failed, with the reason."""
        self._board.update(self._tasks[name], description=f"[red]{name}: failed[/red]", note=why)
        self._board.stop_task(self._tasks[name])


@contextmanager
def bars(console: Console) -> Iterator[Bars]:
    """Draw steps on the console until the block ends; they stay there as lines."""
    columns = (
        SpinnerColumn(finished_text="[green]✓[/green]"),
        TextColumn(f"{{task.description:<{NAME_WIDTH}}}"),
        Seconds(),
        TextColumn("{task.fields[weight]}"),
        TextColumn("[dim]{task.fields[note]}[/dim]"),
    )
    with Board(*columns, console=console, expand=False) as board:
        yield Bars(board)
