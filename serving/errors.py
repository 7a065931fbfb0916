"""What can be wrong with models, weights and engines. Requests have their own errors, in serving/gateway/errors.py."""

from __future__ import annotations


class ServingError(Exception):
    """Root of this package's errors; ``code`` is stable."""

    code = "serving"


class UnknownModel(ServingError):
    """No model of this name is in the catalogue."""

    code = "unknown_model"

    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        super().__init__(model, known)
        self.model, self.known = model, known

    def __str__(self) -> str:
        return f"model {self.model!r} is not in the catalogue; it holds {', '.join(self.known) or 'no model'}"


class CatalogueFault(ServingError):
    """A file of the catalogue does not describe models."""

    code = "catalogue_fault"

    def __init__(self, file: str, fault: str) -> None:
        super().__init__(file, fault)
        self.file, self.fault = file, fault

    def __str__(self) -> str:
        return f"{self.file}: {self.fault}; correct the file"


class WeightsMissing(ServingError):
    """The weights are not where they were said to be."""

    code = "weights_missing"

    def __init__(self, path: str, remedy: str) -> None:
        super().__init__(path, remedy)
        self.path, self.remedy = path, remedy

    def __str__(self) -> str:
        return f"no weights at {self.path}; {self.remedy}"


class WeightsAltered(ServingError):
    """The weights are not the ones that were recorded."""

    code = "weights_altered"

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(path, expected, found)
        self.path, self.expected, self.found = path, expected, found

    def __str__(self) -> str:
        return (
            f"{self.path}: sha256 is {self.found}, recorded was {self.expected}; delete the file and prepare it again"
        )


class WeightsRefused(ServingError):
    """A kind of file that can run code when it is opened."""

    code = "weights_refused"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: only safetensors and GGUF are accepted; convert the model, pickle is never opened"


class WeightsUnrecorded(ServingError):
    """Nobody recorded what the weights must be."""

    code = "weights_unrecorded"

    def __init__(self, variant: str) -> None:
        super().__init__(variant)
        self.variant = variant

    def __str__(self) -> str:
        return (
            f"no sha256 is recorded for the weights of {self.variant}; bring them with "
            f"`partage model add {self.variant} --from PLACE`, then start the platform again"
        )


class StoreUnreadable(ServingError):
    """The site's store did not give what was asked of it."""

    code = "store_unreadable"

    def __init__(self, what: str, cause: str) -> None:
        super().__init__(what, cause)
        self.what, self.cause = what, cause

    def __str__(self) -> str:
        return f"{self.what}: {self.cause}; check the address, the endpoint and the key of the store"


class UnknownEngine(ServingError):
    """No engine of this name exists."""

    code = "unknown_engine"

    def __init__(self, engine: str, known: tuple[str, ...]) -> None:
        super().__init__(engine, known)
        self.engine, self.known = engine, known

    def __str__(self) -> str:
        return f"engine {self.engine!r} does not exist; choose one of {', '.join(self.known)}"


class EngineUnavailable(ServingError):
    """The engine's package is not installed, or the machine lacks what it needs."""

    code = "engine_unavailable"

    def __init__(self, engine: str, cause: str) -> None:
        super().__init__(engine, cause)
        self.engine, self.cause = engine, cause

    def __str__(self) -> str:
        return f"engine {self.engine!r} cannot run here: {self.cause}"


class SleepUnavailable(ServingError):
    """The engine cannot give its device's memory up and take it back here."""

    code = "sleep_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "this engine cannot sleep on this kind of device, or did not get its memory back: stop it instead"
        )
