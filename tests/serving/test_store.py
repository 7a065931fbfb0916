"""Weights from a directory or the site's S3-compatible store: listed, signed, hashed on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from serving.apps.engine import build
from serving.catalogue import entries, find_variant
from serving.errors import StoreUnreadable, WeightsAltered, WeightsMissing, WeightsRefused, WeightsUnrecorded
from serving.store import Place, bring, place_of
from serving.weights import sha256_of, verify
from tests.serving.s3 import ACCESS, SECRET, store
from tests.serving.test_cli import partage

VARIANT = find_variant("mistral-small-3.2-24b-fp8", entries())
FILES = {"config.json": b"{}", "model-00001.safetensors": b"numbers" * 1000, "tekken.json": b"{}"}


def published(place: Path, files: dict[str, bytes] = FILES) -> Path:
    """Make a folder as it lies in a site's store; return it."""
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "SHA256SUMS").write_text("".join(f"{sha256_of(place / name)}  {name}\n" for name in files))
    return place


def signed(folder: Path, place: Path) -> Path:
    """Sign the folder's list; return the publisher's public key."""
    key = Ed25519PrivateKey.generate()
    (folder / "SHA256SUMS.sig").write_bytes(key.sign((folder / "SHA256SUMS").read_bytes()))
    place.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return place


def credentials(place: Path, secret: str = SECRET) -> Path:
    place.write_text(yaml.safe_dump({"access_key_id": ACCESS, "secret_access_key": secret}))
    return place


def brought(place: Place, cache: Path, publisher: Path | None = None) -> str:
    return bring(VARIANT, place, cache, publisher, print)


def test_weights_come_from_the_store_with_a_signed_request_and_are_recorded(tmp_path: Path) -> None:
    published(tmp_path / "s3" / "models" / "small")
    with store(tmp_path / "s3") as (endpoint, asked):
        place = place_of("s3://models/small", endpoint, credentials(tmp_path / "key.yaml"))
        recorded = brought(place, tmp_path / "cache")
    assert {path.rpartition("/")[2] for path in asked} == {*FILES, "SHA256SUMS"}
    verify(tmp_path / "cache" / VARIANT.weights, recorded)
    assert [path.name for path in (tmp_path / "cache" / "mistral").iterdir() if "unfinished" in path.name] == []


def test_a_wrong_key_and_an_absent_store_are_told_apart_from_missing_weights(tmp_path: Path) -> None:
    published(tmp_path / "s3" / "models" / "small")
    with store(tmp_path / "s3") as (endpoint, _):
        wrong = credentials(tmp_path / "key.yaml", "another")
        with pytest.raises(StoreUnreadable):
            brought(place_of("s3://models/small", endpoint, wrong), tmp_path / "cache")
        right = credentials(tmp_path / "key.yaml")
        with pytest.raises(WeightsMissing):
            brought(place_of("s3://models/nothing", endpoint, right), tmp_path / "cache")
    with pytest.raises(StoreUnreadable, match="endpoint"):
        place_of("s3://models/small", "", None)


def test_altered_weights_never_reach_the_cache(tmp_path: Path) -> None:
    folder = published(tmp_path / "small")
    (folder / "model-00001.safetensors").write_bytes(b"other numbers")
    with pytest.raises(WeightsAltered):
        brought(place_of(str(folder), "", None), tmp_path / "cache")
    assert not (tmp_path / "cache" / VARIANT.weights).exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling.py", "../escaped.json", "/etc/shadow.json"])
def test_what_could_run_or_escape_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    folder = published(tmp_path / "small")
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(WeightsRefused):
        brought(place_of(str(folder), "", None), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_where_a_publisher_is_named_the_list_must_be_its_own(tmp_path: Path) -> None:
    folder = published(tmp_path / "small")
    place = place_of(str(folder), "", None)
    with pytest.raises(WeightsMissing, match="sig"):
        brought(place, tmp_path / "cache", tmp_path / "publisher.pem")
    publisher = signed(folder, tmp_path / "publisher.pem")
    brought(place, tmp_path / "cache", publisher)
    stranger = signed(published(tmp_path / "other"), tmp_path / "stranger.pem")
    with pytest.raises(WeightsAltered, match="not signed"):
        brought(place, tmp_path / "cache2", stranger)


def test_what_was_interrupted_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder = published(tmp_path / "s3" / "models" / "small")
    whole = (folder / "tekken.json").read_bytes()
    (folder / "tekken.json").unlink()
    with store(tmp_path / "s3") as (endpoint, asked):
        place = place_of("s3://models/small", endpoint, credentials(tmp_path / "key.yaml"))
        with pytest.raises(WeightsMissing):
            brought(place, tmp_path / "cache")
        (folder / "tekken.json").write_bytes(whole)
        brought(place, tmp_path / "cache")
    assert sum(path.endswith(".safetensors") for path in asked) == 1


def test_the_command_brings_records_and_verifies_and_no_replica_opens_what_is_not_recorded(tmp_path: Path) -> None:
    folder = published(tmp_path / "small")
    cache = ("--cache", str(tmp_path / "cache"))
    status, said = partage("model", "verify", "mistral-small-3.2-24b", *cache, home=tmp_path)
    assert (status, said.count("no sha256 is recorded")) == (1, 2)
    status, said = partage("model", "add", str(VARIANT.id), "--from", str(folder), *cache, home=tmp_path)
    assert status == 0, said
    assert sha256_of(folder / "SHA256SUMS") in said
    status, said = partage("model", "verify", "mistral-small-3.2-24b", *cache, home=tmp_path)
    assert (status, said.count("as recorded")) == (1, 1)
    status, said = partage("model", "show", "mistral-small-3.2-24b", *cache, home=tmp_path)
    assert sha256_of(folder / "SHA256SUMS") in said
    status, said = partage("model", "add", "nowhere.yaml", home=tmp_path)
    assert (status, "--from" in said) == (3, True)
    args = {"group": "g", "model": "m", "variant": str(VARIANT.id), "engine": "vllm", "weights": VARIANT.weights}
    with pytest.raises(WeightsUnrecorded):
        build(args)
