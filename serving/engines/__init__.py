"""Engines by name. Adding one touches its file and this table; packages are imported when an engine is opened."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from serving.engines.protocol import Engine, EngineSpec
from serving.errors import EngineUnavailable, UnknownEngine
from serving.weights import verify

ENGINES = {
    "llama_cpp": "serving.engines.llama_cpp:LlamaCpp",
    "vllm": "serving.engines.vllm:Vllm",
    "transformers": "serving.engines.transformers:Transformers",
    "embedding": "serving.engines.embedding:Embedding",
    "synthetic": "serving.engines.synthetic:Synthetic",
}


def open_engine(spec: EngineSpec) -> Engine:
    """Return the engine, to be started; its weights were verified first.

    Raises ``UnknownEngine``, ``EngineUnavailable``, ``WeightsMissing``, ``WeightsAltered``, ``WeightsRefused``.
    """
    if spec.engine not in ENGINES:
        raise UnknownEngine(spec.engine, tuple(ENGINES))
    if spec.weights is not None:
        publisher = Path(spec.publisher_key) if spec.publisher_key else None
        verify(spec.weights, spec.sha256, publisher)  # before a device is touched
    module, _, name = ENGINES[spec.engine].partition(":")
    try:
        engine: Engine = getattr(import_module(module), name)(spec)
    except ImportError as fault:
        raise EngineUnavailable(spec.engine, str(fault)) from fault
    return engine
