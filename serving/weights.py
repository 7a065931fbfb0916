"""Weights on disk: made once into a cache, recorded with their SHA-256, verified before an engine opens them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from policies.model.catalogue import Model, Variant
from serving.catalogue import Entry, Source
from serving.errors import WeightsAltered, WeightsMissing, WeightsRefused

ACCEPTED_SUFFIXES = (".gguf", ".safetensors")
"""Formats that hold numbers only; anything else may run code when it is opened."""
SUMS = "SHA256SUMS"
SIGNATURE = SUMS + ".sig"
DESCRIPTIONS = (".json", ".jinja", ".txt", ".md", ".model")
"""What may lie beside the weights: configuration, templates, tokenizers. No Python, no pickle."""

Progress = Callable[[str], None]


def prepare(entry: Entry, cache: Path, progress: Progress) -> Model:
    """Return the model with the SHA-256 of each variant; every variant's file is then in the cache.

    Files already recorded are kept; missing ones are made from the entry's source. Two callers at once make each
    file once. Costs seconds per variant the first time. Raises ``WeightsMissing``, ``WeightsAltered``.
    """
    if entry.source is None:
        return recorded(entry.model, cache)
    source = entry.source
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / ".lock"):
        return replace(entry.model, variants=tuple(_prepared(v, source, cache, progress) for v in entry.model.variants))


def recorded(model: Model, cache: Path) -> Model:
    """Return the model with the SHA-256 that is recorded in the cache for each variant; empty where none is."""
    return replace(model, variants=tuple(_recorded(variant, cache) for variant in model.variants))


def verify(path: Path, expected: str, publisher: Path | None = None) -> None:
    """Return if the file or folder may be opened by an engine and is the one that was recorded.

    Args:
        path: a GGUF or safetensors file, or a folder with ``SHA256SUMS`` that names every file in it.
        expected: SHA-256 of the file, or of the folder's ``SHA256SUMS``; empty checks only that the kinds are accepted
            and that the folder agrees with its list.
        publisher: file of an Ed25519 public key (PEM) that must have signed the folder's list, in ``SHA256SUMS.sig``.

    Reads every byte: about 0.2 s per 100 MB. Raises ``WeightsMissing``, ``WeightsRefused``, ``WeightsAltered``.
    """
    if path.is_dir():
        _verify_folder(path, expected, publisher)
        return
    if path.suffix not in ACCEPTED_SUFFIXES:
        raise WeightsRefused(str(path))
    if not path.is_file():
        raise WeightsMissing(str(path), "prepare the model on this host or mount the site's store")
    _require_sha256(path, expected)


def _verify_folder(folder: Path, expected: str, publisher: Path | None) -> None:
    sums = folder / SUMS
    if not sums.is_file():
        raise WeightsMissing(str(sums), "list every file of the model with sha256sum")
    _require_sha256(sums, expected)
    if publisher is not None:
        require_signature(sums, publisher)
    names = dict(listed(sums))
    for file in sorted(each for each in folder.rglob("*") if each.is_file() and each.name not in (SUMS, SIGNATURE)):
        name = file.relative_to(folder).as_posix()
        if file.suffix not in (*ACCEPTED_SUFFIXES, *DESCRIPTIONS) or name not in names:
            raise WeightsRefused(str(file))
        _require_sha256(file, names.pop(name))
    if names:
        raise WeightsMissing(str(folder / min(names)), "copy the folder again: it is not complete")


def listed(sums: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the SHA-256 of each file in a list as ``sha256sum`` writes it."""
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition(" ")
        yield name.lstrip(" *"), digest


def _require_sha256(path: Path, expected: str) -> None:
    if expected and (found := sha256_of(path)) != expected:
        raise WeightsAltered(str(path), expected, found)


def require_signature(sums: Path, publisher: Path) -> None:
    """Return if the publisher, whose Ed25519 public key the file holds, signed the list. Raises ``WeightsAltered``."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    signature = sums.with_name(SIGNATURE)
    key = load_pem_public_key(publisher.read_bytes())
    if not signature.is_file() or not isinstance(key, Ed25519PublicKey):
        raise WeightsMissing(str(signature), "the publisher must sign the list with Ed25519")
    try:
        key.verify(signature.read_bytes(), sums.read_bytes())
    except InvalidSignature as fault:
        raise WeightsAltered(str(sums), f"signed by {publisher.name}", "not signed by it") from fault


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shipped_file(source: Source) -> Path:
    """Return the verified file of an installed package. Raises ``WeightsMissing``, ``WeightsAltered``."""
    try:
        path = Path(str(metadata.distribution(source.package).locate_file(source.file)))
    except metadata.PackageNotFoundError as fault:
        raise WeightsMissing(source.file, f"install the package {source.package}") from fault
    verify(path, source.sha256)
    return path


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _recorded(variant: Variant, cache: Path) -> Variant:
    record = record_of(cache / variant.weights)
    return replace(variant, sha256=record.read_text().strip()) if record.is_file() else variant


def _prepared(variant: Variant, source: Source, cache: Path, progress: Progress) -> Variant:
    path = cache / variant.weights
    if not (path.is_file() and record_of(path).is_file()):
        progress(f"making {path.name} ({variant.precision}) of {path.parent.name}, once")
        _make(variant, shipped_file(source), path)
    return _recorded(variant, cache)


def _make(variant: Variant, shipped: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    requantise(shipped, unfinished, variant.precision)
    record_of(path).write_text(sha256_of(unfinished) + "\n")
    unfinished.replace(path)


def record_of(path: Path) -> Path:
    """Return the file beside the weights that holds their recorded SHA-256."""
    return path.with_name(path.name + ".sha256")


def requantise(shipped: Path, made: Path, precision: str) -> None:
    """Write the same model at another precision; norms and one-dimensional tensors stay in 32 bits."""
    import gguf

    reader: Any = gguf.GGUFReader(shipped)
    if gguf.LlamaFileType[f"MOSTLY_{precision.upper()}"] == _file_type(reader):
        shutil.copyfile(shipped, made)
        return
    writer = gguf.GGUFWriter(made, reader.get_field("general.architecture").contents())
    _copy_fields(reader, writer, int(gguf.LlamaFileType[f"MOSTLY_{precision.upper()}"]))
    _convert_tensors(reader, writer, gguf.GGMLQuantizationType[precision.upper()])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _file_type(reader: Any) -> int:
    return int(reader.get_field("general.file_type").contents())


def _copy_fields(reader: Any, writer: Any, file_type: int) -> None:
    from gguf import GGUFValueType

    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue  # the writer makes these itself
        kind = field.types[0]
        value = file_type if key == "general.file_type" else field.contents()
        writer.add_key_value(key, value, kind, sub_type=field.types[-1] if kind == GGUFValueType.ARRAY else None)


def _convert_tensors(reader: Any, writer: Any, target: Any) -> None:
    import numpy as np
    from gguf.quants import dequantize, quantize

    for tensor in reader.tensors:
        numbers = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if len(tensor.shape) > 1 and "norm" not in tensor.name:
            writer.add_tensor(tensor.name, quantize(numbers, target), raw_dtype=target)
        else:
            writer.add_tensor(tensor.name, numbers)


def manifest(models: tuple[Model, ...]) -> str:
    """Return the models as a JSON list, as ``python -m serving.prepare`` prints it."""
    from policies.model.codec import to_plain

    return json.dumps([to_plain(model) for model in models], indent=2, sort_keys=True)
