"""What the local actuator does not do: the world is not, or not yet, as the action needs it."""

from __future__ import annotations

from cluster.refusals import Refusal
from policies.model.units import ClaimId, GroupId, ModelId, VariantId, WorkerId


class WorkerNotBound(Refusal):
    """A group is to start on a worker that the ledger does not know to hold its devices."""

    code = "worker_not_bound"

    def __init__(self, worker: WorkerId) -> None:
        super().__init__(worker)
        self.worker = worker

    def __str__(self) -> str:
        return f"worker {self.worker} is not bound to the group's devices; it has to be started first"


class WorkerNotJoined(Refusal):
    """A worker's process has not joined its Ray cluster."""

    code = "worker_not_joined"

    def __init__(self, worker: WorkerId) -> None:
        super().__init__(worker)
        self.worker = worker

    def __str__(self) -> str:
        return f"worker {self.worker} has not joined its cluster yet; its log says how far it is"


class WorkerStopping(Refusal):
    """A worker of this name is being stopped."""

    code = "worker_stopping"

    def __init__(self, worker: WorkerId) -> None:
        super().__init__(worker)
        self.worker = worker

    def __str__(self) -> str:
        return f"worker {self.worker} is being stopped; it can be started again once it is gone"


class WorkerCarriesGroups(Refusal):
    """A worker is to stop while groups are on it."""

    code = "worker_carries_groups"

    def __init__(self, worker: WorkerId, groups: tuple[GroupId, ...]) -> None:
        super().__init__(worker, groups)
        self.worker, self.groups = worker, groups

    def __str__(self) -> str:
        return f"worker {self.worker} carries {', '.join(self.groups)}; these have to drain and stop first"


class GroupStopping(Refusal):
    """A group of this name is being stopped."""

    code = "group_stopping"

    def __init__(self, group: GroupId) -> None:
        super().__init__(group)
        self.group = group

    def __str__(self) -> str:
        return f"group {self.group} is being stopped; it can be started again once it is gone"


class GroupNotRunning(Refusal):
    """A group is to receive requests and has no running replica."""

    code = "group_not_running"

    def __init__(self, group: GroupId) -> None:
        super().__init__(group)
        self.group = group

    def __str__(self) -> str:
        return f"group {self.group} has no running replica; it is routed once it has one"


class NoJobEngine(Refusal):
    """A group without a model is to be started: a job without a command, or on a platform that runs no jobs."""

    code = "no_job_engine"

    def __init__(self, claim: ClaimId) -> None:
        super().__init__(claim)
        self.claim = claim

    def __str__(self) -> str:
        return (
            f"{self.claim} is a job; devices are kept for it, but it names no command, or this platform has no engine "
            "that runs jobs. Run it on those devices yourself, or delete the claim"
        )


class UnknownVariant(Refusal):
    """A group names a model or variant that the catalogue does not have."""

    code = "unknown_variant"

    def __init__(self, model: ModelId | None, variant: VariantId | None) -> None:
        super().__init__(model, variant)
        self.model, self.variant = model, variant

    def __str__(self) -> str:
        return (
            f"variant {self.variant} of model {self.model} is not in the catalogue of this machine; "
            "start the platform again after adding it"
        )
