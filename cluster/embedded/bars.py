"""Steps on a terminal: each with a spinner and its seconds while it runs, a tick and what all of ours weighs after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Board
from rich.progress import ProgressColumn, SpinnerColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from cluster.embedded.progress import Step

NAME_WIDTH = 28


class Line(ProgressColumn):
    """A step on one line, cut at the terminal's edge: its name, its seconds, what all of ours weighs, a note."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(no_wrap=True, overflow="ellipsis"))

    def render(self, task: Task) -> Text:
        """Return the line; seconds run while the step does."""
        taken = task.finished_time if task.finished else task.elapsed
        style = "red" if task.fields["failed"] else "" if task.finished else "bold"
        return Text.assemble(
            (f"{task.description:<{NAME_WIDTH}}", style),
            (f"{taken or 0:6.1f} s", style),
            f" {task.fields['weight']:>10}",
            (f"  {task.fields['note']}", "dim"),
        )


class Bars:
    """Hears of steps and draws them. Several may run at once."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._tasks: dict[str, TaskID] = {}

    def started(self, name: str) -> None:
        """Draw the step as running."""
        self._tasks[name] = self._board.add_task(name, total=1, weight="", note="", failed=False)

    def finished(self, step: Step) -> None:
        """Draw the step as done, with what all of ours weighs now."""
        weight = f"{step.memory_mib} MiB"
        self._board.update(self._tasks[step.name], completed=1, weight=weight, note=step.note)

    def failed(self, name: str, why: str) -> None:
        """Draw the step as failed, with the reason."""
        self._board.update(self._tasks[name], note=f"failed: {why}", failed=True)
        self._board.stop_task(self._tasks[name])


@contextmanager
def bars(console: Console) -> Iterator[Bars]:
    """Draw steps on the console until the block ends; they stay there as lines."""
    columns = (SpinnerColumn(finished_text="[green]✓[/green]"), Line())
    with Board(*columns, console=console, expand=False) as board:
        yield Bars(board)
