"""What the packing benchmark refuses to read or run."""

from __future__ import annotations

from pathlib import Path


class PackingRefusal(Exception):
    """The benchmark was asked for something that it cannot do."""

    code = "packing_refused"


class BadTrace(PackingRefusal):
    """A file does not hold what the benchmark reads."""

    code = "bad_trace"

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(path, what)
        self.path, self.what = path, what

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


class NothingToRun(PackingRefusal):
    """No line of the inputs belongs to the tasks and the seed asked for."""

    code = "nothing_to_run"

    def __init__(self, inputs: Path, trace: str, seed: int | None) -> None:
        super().__init__(inputs, trace, seed)
        self.inputs, self.trace, self.seed = inputs, trace, seed

    def __str__(self) -> str:
        seed = "any seed" if self.seed is None else f"seed {self.seed}"
        return f"{self.inputs} holds no line for trace {self.trace!r} and {seed}; name the trace with --trace"


class UnknownPolicy(PackingRefusal):
    """No placement score has this name."""

    code = "unknown_score"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        return f"placement score {self.name!r} does not exist; choose one of {', '.join(self.known)} or all"
