"""What may be wrong with a policy or a document. Not fitting is a Reason, never an error."""

from __future__ import annotations


class PolicyError(Exception):
    """Base of every error of this package; each subclass has a stable ``code``."""

    code = "policy_error"


class DocumentInvalid(PolicyError):
    """A document does not say what its kind requires, at one place; ``others`` holds what else is wrong with it."""

    code = "document_invalid"

    def __init__(self, file: str, line: int, column: int, path: str, fault: str) -> None:
        super().__init__(file, line, column, path, fault)
        self.file, self.line, self.column, self.path, self.fault = file, line, column, path, fault
        self.others: tuple[DocumentInvalid, ...] = ()

    def __str__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        return f"{self.file}:{self.line}:{self.column}{where}: {self.fault}"


class UnknownScore(PolicyError):
    """The policy names a placement score that does not exist."""

    code = "unknown_score"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        return f"placement score {self.name!r} does not exist; choose one of {', '.join(self.known)}"
