"""The catalogue and the weights on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from policies.model.catalogue import Model
from policies.model.codec import from_plain
from serving.catalogue import DEFAULT_MODEL, entries, find
from serving.engines import ENGINES, open_engine
from serving.engines.protocol import EngineSpec
from serving.errors import CatalogueFault, UnknownEngine, UnknownModel, WeightsAltered, WeightsMissing, WeightsRefused
from serving.weights import prepare, sha256_of, verify


def test_every_variant_says_where_its_figures_come_from() -> None:
    for entry in entries():
        for variant in entry.model.variants:
            assert variant.provenance, variant.id
            assert variant.engine in ENGINES, variant.id


def test_every_rung_names_the_variant_that_it_runs_and_the_best_comes_first() -> None:
    for entry in entries():
        ladder = entry.model.ladder()
        assert {shape.variant for shape in ladder} == {v.id for v in entry.model.variants if v.shapes}
        qualities = [shape.quality for shape in ladder]
        assert qualities == sorted(qualities, reverse=True), entry.model.id


def test_the_default_model_has_three_variants_that_differ_in_memory_and_speed() -> None:
    variants = find(DEFAULT_MODEL, entries()).model.variants
    assert len(variants) >= 3
    assert len({v.weights_mib for v in variants}) == len(variants)


def test_an_unknown_model_is_named_with_those_that_exist() -> None:
    with pytest.raises(UnknownModel, match=DEFAULT_MODEL):
        find("gpt-9", entries())


def test_a_file_that_does_not_describe_models_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("- id: x\n  variants: [{id: 1}]\n  context_tokens: many\n")
    with pytest.raises(CatalogueFault, match=r"bad\.yaml.*\n?.*context_tokens|variants"):
        entries(tmp_path)


def test_two_models_of_one_name_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text("- {id: x, variants: [], context_tokens: 1}\n" * 2)
    with pytest.raises(CatalogueFault, match="named twice"):
        entries(tmp_path)


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    for name in ("model.bin", "model.pt", "model.pkl", "model.ckpt"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
        with pytest.raises(WeightsRefused):
            verify(tmp_path / name, "")


def test_altered_and_missing_weights_stop_an_engine_before_it_loads(tmp_path: Path) -> None:
    file = tmp_path / "w.gguf"
    with pytest.raises(WeightsMissing):
        verify(file, "")
    file.write_bytes(b"GGUF")
    right = sha256_of(file)
    verify(file, right)
    file.write_bytes(b"GGUF altered")
    with pytest.raises(WeightsAltered):
        open_engine(EngineSpec(group="g", model="m", variant="v", engine="llama_cpp", weights=file, sha256=right))


def folder_of_weights(place: Path) -> str:
    """Make a folder as a site would; return the SHA-256 of its list."""
    place.mkdir()
    (place / "model.safetensors").write_bytes(b"numbers")
    (place / "config.json").write_text("{}")
    names = ("config.json", "model.safetensors")
    (place / "SHA256SUMS").write_text("".join(f"{sha256_of(place / name)}  {name}\n" for name in names))
    return sha256_of(place / "SHA256SUMS")


def test_a_folder_is_what_its_list_says_or_it_is_not_opened(tmp_path: Path) -> None:
    recorded = folder_of_weights(tmp_path / "m")
    verify(tmp_path / "m", recorded)
    with pytest.raises(WeightsAltered):
        verify(tmp_path / "m", "0" * 64)
    (tmp_path / "m" / "model.safetensors").write_bytes(b"other numbers")
    with pytest.raises(WeightsAltered):
        verify(tmp_path / "m", recorded)
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(WeightsMissing):
        verify(tmp_path / "m", recorded)


@pytest.mark.parametrize("intruder", ["pytorch_model.bin", "modeling.py", "unlisted.json"])
def test_nothing_that_is_not_listed_or_could_run_lies_in_the_folder(tmp_path: Path, intruder: str) -> None:
    recorded = folder_of_weights(tmp_path / "m")
    (tmp_path / "m" / intruder).write_text("x")
    with pytest.raises(WeightsRefused):
        verify(tmp_path / "m", recorded)


def test_where_a_publisher_is_named_only_its_signature_opens_the_folder(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    recorded, key, other = folder_of_weights(tmp_path / "m"), Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public, sums = tmp_path / "publisher.pem", tmp_path / "m" / "SHA256SUMS"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(WeightsMissing, match="sign"):
        verify(tmp_path / "m", recorded, public)
    sums.with_name("SHA256SUMS.sig").write_bytes(other.sign(sums.read_bytes()))
    with pytest.raises(WeightsAltered, match="not signed"):
        verify(tmp_path / "m", recorded, public)
    sums.with_name("SHA256SUMS.sig").write_bytes(key.sign(sums.read_bytes()))
    verify(tmp_path / "m", recorded, public)


def test_an_unknown_engine_is_named_with_those_that_exist() -> None:
    with pytest.raises(UnknownEngine, match="llama_cpp"):
        open_engine(EngineSpec(group="g", model="m", variant="v", engine="tpu"))


@pytest.mark.timeout(240)
def test_weights_are_made_once_even_by_two_at_once_and_recorded(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving.prepare", "--cache", str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert sum(progress.count("making") for _, progress in outputs) == 3, "each variant by one of the two"
    models = [from_plain(Model, plain) for plain in json.loads(outputs[0][0])]
    (default,) = [model for model in models if model.id == DEFAULT_MODEL]
    for variant in default.variants:
        assert sha256_of(tmp_path / variant.weights) == variant.sha256
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.gguf")}
    prepare(find(DEFAULT_MODEL, entries()), tmp_path, print)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.gguf")} == stamps, "nothing is made again"


BYTES = {"bf16": 2.0, "fp8": 1.0, "nvfp4": 0.5}
CACHE_BYTES = {"bf16": 2, "awq": 2, "fp8": 1, "nvfp4": 1}


def test_memory_follows_from_the_published_architecture() -> None:
    derived = 0
    for entry in entries():
        for variant in entry.model.variants if entry.architecture else ():
            assert entry.architecture is not None
            values = entry.architecture.cached_values()
            assert variant.kv_bytes_per_token == values * CACHE_BYTES[variant.precision], variant.id
            if variant.precision in BYTES:
                mib = entry.architecture.parameters_millions * 1_000_000 * BYTES[variant.precision] / 2**20
                assert abs(variant.weights_mib - mib) <= 0.05 * mib, variant.id
            derived += 1
    assert derived > 20


def test_every_shape_holds_its_weights_and_the_context_of_one_request() -> None:
    for entry in entries():
        for variant in entry.model.variants:
            for shape in variant.shapes:
                context_mib = variant.kv_bytes_per_token * entry.model.context_tokens >> 20
                assert shape.memory_mib * shape.devices >= variant.weights_mib + context_mib, variant.id


def test_the_whole_mistral_family_is_there_with_its_licences() -> None:
    family = [entry for entry in entries() if entry.family == "mistral"]
    names = " ".join(str(entry.model.id) for entry in family)
    for member in ("ministral-3-8b", "ministral-3-14b", "small", "medium", "large", "codestral", "devstral", "pixtral"):
        assert member in names
    assert {"audio", "embeddings", "image"} <= {each for entry in family for each in entry.model.modalities}
    assert all(entry.model.licence and entry.licence_source for entry in entries())
    precisions = {variant.precision for entry in family for variant in entry.model.variants}
    assert precisions == {"bf16", "fp8", "awq", "nvfp4"}
