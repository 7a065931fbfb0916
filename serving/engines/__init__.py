"""Engines by name. Adding one touches its file and this table; packages are imported when an engine is opened."""

from __future__ import annotations

from importlib import import_module

from serving.engines.protocol import Engine, EngineSpec
from serving.errors import EngineUnavailable, UnknownEngine
from serving.weights import verify

ENGINES = {
    "llama_cpp": "serving.engines.llama_cpp:LlamaCpp",
    "synthetic": "serving.engines.synthetic:Synthetic",
}


def open_engine(spec: EngineSpec) -> Engine:
    """Return the loaded engine; its weights were verified first.

    Raises ``UnknownEngine``, ``EngineUnavailable``, ``WeightsMissing``, ``WeightsAltered``, ``WeightsRefused``.
    """
    if spec.engine not in ENGINES:
        raise UnknownEngine(spec.engine, tuple(ENGINES))
    if spec.weights is not None:
        verify(spec.weights, spec.sha256)
    module, _, name = ENGINES[spec.engine].partition(":")
    try:
        engine: Engine = getattr(import_module(module), name)(spec)
    except ImportError as fault:
        raise EngineUnavailable(spec.engine, str(fault)) from fault
    return engine
