"""What the control plane refuses: one class for each thing that is wrong, with a stable code and a whole sentence."""

from __future__ import annotations

from pathlib import Path

from policies.model.units import DeviceId, SecurityDomain, WorkerId


class Refusal(Exception):
    """Something asked of the control plane that it does not do."""

    code = "refused"


class StaleGeneration(Refusal):
    """A newer leader has written; this process must stop acting."""

    code = "stale_generation"

    def __init__(self, offered: int, current: int) -> None:
        super().__init__(offered, current)
        self.offered, self.current = offered, current

    def __str__(self) -> str:
        return (
            f"fencing generation {self.offered} is older than {self.current}: another control plane leads; "
            "stop this one, or restart it to take over"
        )


class Conflict(Refusal):
    """The stored object is not the one that the change was made from."""

    code = "conflict"

    def __init__(self, subject: str, expected: int, stored: int) -> None:
        super().__init__(subject, expected, stored)
        self.subject, self.expected, self.stored = subject, expected, stored

    def __str__(self) -> str:
        return (
            f"{self.subject} is at generation {self.stored}, not {self.expected}: it was changed since you read it; "
            "read it again and repeat your change"
        )


class NotFound(Refusal):
    """There is no such object, or none that the caller may see."""

    code = "not_found"

    def __init__(self, kind: str, subject: str) -> None:
        super().__init__(kind, subject)
        self.kind, self.subject = kind, subject

    def __str__(self) -> str:
        return f"no {self.kind} named {self.subject!r}; `partage get {self.kind}s` lists those that you may see"


class NoPolicy(Refusal):
    """No policy was ever put in force; nothing is decided without one."""

    code = "no_policy"

    def __str__(self) -> str:
        return "no policy is in force; put one with `partage apply -f policy.yaml`"


class LimitReached(Refusal):
    """A named limit of the settings stands in the way."""

    code = "limit_reached"

    def __init__(self, what: str, limit: int, setting: str) -> None:
        super().__init__(what, limit, setting)
        self.what, self.limit, self.setting = what, limit, setting

    def __str__(self) -> str:
        return f"{self.what}: the limit is {self.limit} (setting {self.setting}); delete some or raise the setting"


class DeviceHeld(Refusal):
    """Another worker holds the device."""

    code = "device_held"

    def __init__(self, device: DeviceId, holder: WorkerId) -> None:
        super().__init__(device, holder)
        self.device, self.holder = device, holder

    def __str__(self) -> str:
        return f"device {self.device} is held by worker {self.holder}; stop that worker first"


class DeviceNotClean(Refusal):
    """Another domain held the device last, and no passed proof of a scrub followed."""

    code = "device_not_clean"

    def __init__(self, device: DeviceId, last: SecurityDomain | None, wanted: SecurityDomain) -> None:
        super().__init__(device, last, wanted)
        self.device, self.last, self.wanted = device, last, wanted

    def __str__(self) -> str:
        return (
            f"device {self.device} was last held by {self.last} and is not proved clean; "
            f"scrub and verify it before {self.wanted} may have it"
        )


class JournalBusy(Refusal):
    """The journal's lock was not had in time."""

    code = "journal_busy"

    def __init__(self, waited_ms: int) -> None:
        super().__init__(waited_ms)
        self.waited_ms = waited_ms

    def __str__(self) -> str:
        return f"the journal was locked for {self.waited_ms} ms; nothing was changed, try again"


class JournalFull(Refusal):
    """The journal cannot grow or cannot be written: nothing moves without its record."""

    code = "journal_full"

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"the journal {self.path} cannot be written ({self.cause}); nothing moves until there is space"


class JournalCorrupt(Refusal):
    """The journal's file is damaged; starting from it could break promises."""

    code = "journal_corrupt"

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return (
            f"the journal {self.path} is damaged ({self.cause}); restore it from a backup, or move it away and start: "
            "an empty journal holds and adopts what runs, it evicts nothing"
        )


class RecordUnreadable(Refusal):
    """Something in the journal is not of a form that this release can read."""

    code = "record_unreadable"

    def __init__(self, what: str, fault: str) -> None:
        super().__init__(what, fault)
        self.what, self.fault = what, fault

    def __str__(self) -> str:
        return (
            f"{self.what}, as the journal holds it, cannot be read by this release ({self.fault}): start the release "
            "that wrote it, or one in between, or restore a backup; nothing was changed"
        )


class SchemaTooNew(Refusal):
    """The journal was written by a newer version."""

    code = "schema_too_new"

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(path, found, known)
        self.path, self.found, self.known = path, found, known

    def __str__(self) -> str:
        return (
            f"the journal {self.path} has schema {self.found}, this version knows {self.known}; "
            "install the version that wrote it, or restore the backup made before the upgrade"
        )
