"""Why the platform could not be started or stopped."""

from __future__ import annotations

from pathlib import Path


class PlatformFault(Exception):
    """The platform on this machine is not as it should be."""

    code = "platform_fault"


class PortTaken(PlatformFault):
    """Another program listens on a port that the platform needs."""

    code = "port_taken"

    def __init__(self, what: str, port: int) -> None:
        super().__init__(what, port)
        self.what, self.port = what, port

    def __str__(self) -> str:
        return (
            f"port {self.port} for {self.what} is used by another program; stop it, or set PARTAGE_{self._variable()}"
        )

    def _variable(self) -> str:
        return {"the control API": "API_PORT"}.get(self.what, f"{self.what.rsplit(' ', 1)[-1].upper()}_PORT")


class NotOurs(PlatformFault):
    """A folder that the platform needs for itself is not its user's alone."""

    code = "not_ours"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder

    def __str__(self) -> str:
        return f"{self.folder} belongs to somebody else or is open to others; remove it and run `partage up` again"


class StepFailed(PlatformFault):
    """A program that a step needs ended with an error."""

    code = "step_failed"

    def __init__(self, step: str, output: str) -> None:
        super().__init__(step, output)
        self.step, self.output = step, output

    def __str__(self) -> str:
        return f"{self.step} failed: {self.output.strip() or 'it said nothing'}"


class ProcessEnded(PlatformFault):
    """One of our processes ended while it was waited for."""

    code = "process_ended"

    def __init__(self, name: str, log: Path, words: str = "") -> None:
        super().__init__(name, log, words)
        self.name, self.log, self.words = name, log, words

    def __str__(self) -> str:
        said = f": {self.words}" if self.words else ""
        return f"{self.name} ended while it was starting{said}; its last words are in {self.log}"


class NotReadyInTime(PlatformFault):
    """Something did not become ready within its time."""

    code = "not_ready_in_time"

    def __init__(self, what: str, waited_ms: int, detail: str = "") -> None:
        super().__init__(what, waited_ms, detail)
        self.what, self.waited_ms, self.detail = what, waited_ms, detail

    def __str__(self) -> str:
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.what} was not ready after {self.waited_ms / 1000:.0f} s{detail}; run `partage up` again to go on"


class OlderWorkersRun(PlatformFault):
    """Workers that another release started still run, under names by which this one does not know them."""

    code = "older_workers_run"

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.names = names

    def __str__(self) -> str:
        return (
            f"{', '.join(self.names)} still run as another release of partage started and named them; end them with "
            "`partage down`, then run `partage up` again: what is recorded of them is taken over"
        )


class AnotherIsRunning(PlatformFault):
    """Another command is starting or stopping this platform."""

    code = "another_is_running"

    def __str__(self) -> str:
        return "another `partage up` or `partage down` works on this platform; wait until it has ended"
