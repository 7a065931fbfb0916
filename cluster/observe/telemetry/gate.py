"""The one door to NVML: every answer is a value or a Missing, and no question is asked twice in vain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml

from policies.model.telemetry import Missing, MissingCause

CAUSES = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: MissingCause.NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION: MissingCause.NO_PERMISSION,
    pynvml.NVML_ERROR_NOT_FOUND: MissingCause.NO_DATA,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: MissingCause.DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_TIMEOUT: MissingCause.TIMEOUT,
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: MissingCause.LIBRARY_NOT_FOUND,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: MissingCause.FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_GPU_IS_LOST: MissingCause.GPU_IS_LOST,
    pynvml.NVML_ERROR_GPU_NOT_FOUND: MissingCause.GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: MissingCause.RESET_REQUIRED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: MissingCause.LIBRARY_MISMATCH,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: MissingCause.FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_DATA: MissingCause.NO_DATA,
    pynvml.NVML_ERROR_NOT_READY: MissingCause.NO_DATA,
}
LEARNT_ONCE = frozenset({MissingCause.NOT_SUPPORTED, MissingCause.FUNCTION_NOT_FOUND, MissingCause.NO_PERMISSION})
DEVICE_GONE = frozenset({MissingCause.GPU_IS_LOST, MissingCause.RESET_REQUIRED})
"""After one of these no other call to the device can succeed."""


def cause_of(code: int, detail: str) -> Missing:
    """Return why there is no reading, from NVML's return code. Codes without a cause of their own keep their number."""
    cause = CAUSES.get(code)
    if cause is None:
        return Missing(MissingCause.FAILED, f"{detail}: NVML error {code}")
    return Missing(cause, detail)


class Unanswered(Exception):
    """A question without whose answer the rest makes no sense was not answered."""

    def __init__(self, missing: Missing) -> None:
        super().__init__(f"{missing.detail or 'NVML'} did not answer: {missing.cause}")
        self.missing = missing


class Gate:
    """Asks NVML about one device (or the node). Not thread-safe: each belongs to one lane."""

    def __init__(self) -> None:
        self._learnt: dict[tuple[str, int | str], Missing] = {}
        self.gone: Missing | None = None
        """Set once the device as a whole does not answer; everything asked after it in this round is refused."""
        self.calling = ""
        """Call under way, for whoever waits in vain; read from other threads."""

    def ask(self, function: Callable[..., Any], *arguments: Any, key: int | str = "") -> Any | Missing:
        """Return what the function answers, or why it did not.

        ``key`` tells apart questions that the same function answers for some arguments only. Never raises for a fault
        of library, driver or device.
        """
        name = function.__name__
        known = self.gone or self._learnt.get((name, key))
        if known is not None:
            return known
        self.calling = name
        try:
            return function(*arguments)
        except pynvml.NVMLError as error:
            return self._learn(name, key, cause_of(error.value, name))
        except pynvml.NVMLLibraryMismatchError:
            # Not an NVMLError: the bindings raise it where the driver is older than they are.
            return self._learn(name, key, Missing(MissingCause.FUNCTION_NOT_FOUND, name))
        except (ValueError, UnicodeDecodeError) as error:
            return Missing(MissingCause.IMPOSSIBLE, f"{name}: {type(error).__name__}")
        finally:
            self.calling = ""

    def require(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what the function answers. Raises ``Unanswered`` if it did not."""
        answer = self.ask(function, *arguments)
        if isinstance(answer, Missing):
            raise Unanswered(answer)
        return answer

    def new_round(self) -> None:
        """Let the device be asked again, although it did not answer as a whole before."""
        self.gone = None

    def forget(self) -> None:
        """Ask everything again: the MIG layout or the driver has changed."""
        self._learnt.clear()
        self.gone = None

    def _learn(self, name: str, key: int | str, missing: Missing) -> Missing:
        if missing.cause in LEARNT_ONCE:
            self._learnt[name, key] = missing
        if missing.cause in DEVICE_GONE:
            self.gone = missing
        return missing
