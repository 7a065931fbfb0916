"""Weights from the site's store into the cache: listed, signed, hashed while they arrive, or not there at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import yaml

from policies.model.catalogue import Variant
from serving.errors import StoreUnreadable, WeightsAltered, WeightsMissing, WeightsRefused
from serving.weights import ACCEPTED_SUFFIXES, DESCRIPTIONS, SIGNATURE, SUMS, listed, record_of, require_signature

LIST_LIMIT_BYTES = 4 * 1024 * 1024
CHUNK_BYTES = 8 * 1024 * 1024
S3 = "s3://"

Progress = Callable[[str], None]


class Place(Protocol):
    """A folder of files, wherever it is."""

    def chunks(self, name: str) -> Iterable[bytes]:
        """Return the file's content in pieces. Raises ``WeightsMissing``, ``StoreUnreadable``."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory, such as a mounted share or a medium that was carried in."""

    path: Path

    def chunks(self, name: str) -> Iterator[bytes]:
        """See ``Place``."""
        file = self.path / name
        if not file.is_file():
            raise WeightsMissing(str(file), "the place must hold every file of its list")
        with file.open("rb") as opened:
            while piece := opened.read(CHUNK_BYTES):
                yield piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A prefix of a bucket of an S3-compatible store. Requests are signed (Signature Version 4) if there is a key."""

    url: str
    """Such as ``s3://models/mistral-small-fp8``."""
    endpoint: str
    """Address of the store inside the site, such as ``https://store.site:9000``."""
    region: str = "us-east-1"
    access_key_id: str = ""
    secret_access_key: str = ""

    def chunks(self, name: str) -> Iterator[bytes]:
        """See ``Place``."""
        from obstore.exceptions import BaseError

        _, prefix = self._parts()
        try:
            for piece in self._store().get(f"{prefix}/{name}".lstrip("/")).stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(piece)
        except FileNotFoundError as fault:
            raise WeightsMissing(f"{self.url}/{name}", "the place must hold every file of its list") from fault
        except (BaseError, OSError) as fault:
            raise StoreUnreadable(f"{self.url}/{name}", type(fault).__name__) from fault

    def _parts(self) -> tuple[str, str]:
        bucket, _, prefix = self.url.removeprefix(S3).strip("/").partition("/")
        return bucket, prefix

    def _store(self) -> Any:
        from obstore.store import S3Store

        signed = {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key}
        return S3Store(
            self._parts()[0],
            endpoint=self.endpoint,
            region=self.region,
            virtual_hosted_style_request=False,
            client_options={"allow_http": self.endpoint.startswith("http://")},
            retry_config={"max_retries": 2},
            **(signed if self.access_key_id else {"skip_signature": True}),
        )


def place_of(text: str, endpoint: str, credentials: Path | None) -> Place:
    """Return the place that the text names: ``s3://bucket/prefix`` at the endpoint, else a directory.

    ``credentials`` is a YAML file with ``access_key_id`` and ``secret_access_key``; None asks without a key.
    """
    if not text.startswith(S3):
        return Folder(Path(text).expanduser())
    if not endpoint:
        raise StoreUnreadable(text, "no endpoint was given")
    key = yaml.safe_load(credentials.read_text(encoding="utf-8")) if credentials else {}
    return Bucket(url=text.rstrip("/"), endpoint=endpoint, **key)


def bring(variant: Variant, place: Place, cache: Path, publisher: Path | None, progress: Progress) -> str:
    """Bring the variant's weights into the cache and return the SHA-256 that is recorded for them.

    The place must hold ``SHA256SUMS``, a list of every file; with ``publisher``, an Ed25519 public key, also
    ``SHA256SUMS.sig``. Kinds that may run code are refused before anything is read. What was interrupted goes on where
    it stopped. Raises ``WeightsMissing``, ``WeightsRefused``, ``WeightsAltered``, ``StoreUnreadable``.
    """
    target = cache / variant.weights
    unfinished = target.with_name(target.name + ".unfinished")
    is_file = target.suffix in ACCEPTED_SUFFIXES
    unfinished.mkdir(parents=True, exist_ok=True)
    sums = unfinished / SUMS
    sums.write_bytes(_small(place, SUMS))
    if publisher is not None:
        sums.with_name(SIGNATURE).write_bytes(_small(place, SIGNATURE))
        require_signature(sums, publisher)
    wanted = {name: digest for name, digest in listed(sums) if not is_file or name == target.name}
    _require_harmless(wanted)
    for name, digest in wanted.items():
        progress(f"bringing {name} of {variant.id}")
        _bring(place, name, digest, unfinished / name)
    return _put(unfinished, target, is_file=is_file)


def _put(unfinished: Path, target: Path, *, is_file: bool) -> str:
    recorded = unfinished / (target.name if is_file else SUMS)
    if not recorded.is_file():
        raise WeightsMissing(str(recorded), f"the list must name {target.name}")
    digest = hashlib.sha256(recorded.read_bytes()).hexdigest() if not is_file else _digest(recorded)
    if target.exists():
        target.rename(target.with_name(target.name + ".replaced"))
    (recorded if is_file else unfinished).rename(target)
    record_of(target).write_text(digest + "\n", encoding="utf-8")
    _remove(target.with_name(target.name + ".replaced"))
    _remove(unfinished)
    return digest


def _bring(place: Place, name: str, digest: str, target: Path) -> None:
    if target.is_file() and _digest(target) == digest:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with target.open("wb") as file:
        for piece in place.chunks(name):
            found.update(piece)
            file.write(piece)
    if found.hexdigest() != digest:
        target.unlink()
        raise WeightsAltered(name, digest, found.hexdigest())


def _require_harmless(wanted: dict[str, str]) -> None:
    if not wanted:
        raise WeightsMissing(SUMS, "the list names no file of this variant")
    for name in wanted:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.suffix not in (*ACCEPTED_SUFFIXES, *DESCRIPTIONS):
            raise WeightsRefused(name)


def _small(place: Place, name: str) -> bytes:
    content = bytearray()
    for piece in place.chunks(name):
        content += piece
        if len(content) > LIST_LIMIT_BYTES:
            raise StoreUnreadable(name, f"a list is at most {LIST_LIMIT_BYTES} bytes")
    return bytes(content)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_file():
        path.unlink()
    for inner in sorted(path.rglob("*"), reverse=True) if path.is_dir() else ():
        inner.unlink() if inner.is_file() else inner.rmdir()
    with suppress(FileNotFoundError):
        path.rmdir()
