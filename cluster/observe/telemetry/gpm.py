"""GPU performance monitoring: how busy the SMs are, on Hopper and newer, per MIG instance too."""

from __future__ import annotations

from typing import Any

import pynvml

from cluster.observe.telemetry.fields import member_of
from cluster.observe.telemetry.gate import Gate, cause_of
from cluster.observe.telemetry.readings import plausible
from policies.model.telemetry import Missing, MissingCause, Reading

_ACTIVITY = {
    "engine_activity_permille": pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL,
    "sm_activity_permille": pynvml.NVML_GPM_METRIC_SM_UTIL,
    "tensor_activity_permille": pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
    "dram_activity_permille": pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
}
"""Percent as NVML says, thousandths as we say."""
_TRAFFIC = {
    "pcie_tx_kib_s": pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC,
    "pcie_rx_kib_s": pynvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC,
}
"""MiB/s as NVML says, KiB/s as we say."""
_WANTED = {**_ACTIVITY, **_TRAFFIC}
NAMES = tuple(_WANTED)
WHOLE, OVERSHOOT = 100.0, 2.0
"""Work and time between two samples are counted apart: a share may come out a little over the whole."""
_FIRST = Missing(MissingCause.NO_DATA, "first of two samples")


class Gpm:
    """Two sample buffers of one device, filled in turn: a metric is what happened between them.

    NVML wants them more than 100 ms apart; with one round a second they are.
    """

    def __init__(self, gate: Gate, gpu_instance: int | None = None) -> None:
        self._gate = gate
        self._instance = gpu_instance
        self._buffers: list[Any] = []
        self._filled = 0
        self._request = _request()

    @property
    def supported(self) -> bool:
        """Whether the device was found to have GPM."""
        return bool(self._buffers)

    def read(self, handle: Any) -> dict[str, Reading]:
        """Return the metrics since the last call. The handle is the physical GPU's, also for MIG instances."""
        problem = self._prepare(handle) or self._sample(handle)
        if problem is not None:
            self._filled = 0
            return dict.fromkeys(NAMES, problem)
        self._filled += 1
        if self._filled < len(self._buffers):
            return dict.fromkeys(NAMES, _FIRST)
        return self._metrics()

    def close(self) -> None:
        """Give the buffers back."""
        for buffer in self._buffers:
            self._gate.ask(pynvml.nvmlGpmSampleFree, buffer)
        self._buffers = []

    def _prepare(self, handle: Any) -> Missing | None:
        if self._buffers:
            return None
        support = self._gate.ask(pynvml.nvmlGpmQueryDeviceSupport, handle, key="gpm")
        if isinstance(support, Missing):
            return support
        if not support.isSupportedDevice:
            return Missing(MissingCause.NOT_SUPPORTED, "GPM")
        pair = [self._gate.ask(pynvml.nvmlGpmSampleAlloc) for _ in range(2)]
        refused = next((one for one in pair if isinstance(one, Missing)), None)
        if refused is None:
            self._buffers = pair
        return refused

    def _sample(self, handle: Any) -> Missing | None:
        buffer = self._buffers[0]
        if self._instance is None:
            answer = self._gate.ask(pynvml.nvmlGpmSampleGet, handle, buffer)
        else:
            key = f"instance{self._instance}"
            answer = self._gate.ask(pynvml.nvmlGpmMigSampleGet, handle, self._instance, buffer, key=key)
        self._buffers.reverse()
        return answer if isinstance(answer, Missing) else None

    def _metrics(self) -> dict[str, Reading]:
        # After the reversal the older sample is first.
        request = self._request
        request.sample1, request.sample2 = self._buffers
        answer = self._gate.ask(pynvml.nvmlGpmMetricsGet, request)
        if isinstance(answer, Missing):
            return dict.fromkeys(NAMES, answer)
        metrics = member_of(request, "metrics")
        return {name: _value(name, metrics[position]) for position, name in enumerate(NAMES)}


def _request() -> Any:
    """Return the question for all metrics, which asks for the same ones every time."""
    request = pynvml.c_nvmlGpmMetricsGet_t()
    request.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    request.numMetrics = len(_WANTED)
    for position, metric in enumerate(_WANTED.values()):
        request.metrics[position].metricId = metric
    return request


def _value(name: str, metric: Any) -> Reading:
    code = member_of(metric, "nvmlReturn")
    if code != pynvml.NVML_SUCCESS:
        return cause_of(code, name)
    value = member_of(metric, "value")
    if name in _TRAFFIC:
        return plausible(name, value * 1024)
    return plausible(name, 1000 if WHOLE < value <= WHOLE + OVERSHOOT else value * 10)
