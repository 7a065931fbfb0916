"""The software bill of materials, CycloneDX 1.6, made from the files themselves. Same files, same bytes."""

from __future__ import annotations

import json
import uuid
import zipfile
from collections.abc import Iterable
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from cluster.bundle.verify import digest

Object = dict[str, Any]
SPACE = uuid.UUID("6f1d1c1e-6a0b-5a43-9d0e-7a6d2b1f0c55")
LONGEST_NAME = 100


def bill(version: str, wheels: Iterable[Path], others: Iterable[tuple[str, Path]]) -> Object:
    """Return the document. ``others`` are pairs of CycloneDX type and file, such as charts and model weights."""
    components = sorted(
        [wheel_component(path) for path in wheels] + [file_component(kind, path) for kind, path in others],
        key=lambda component: (component["name"], component["version"]),
    )
    content = json.dumps(components, sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(SPACE, content)}",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "partage", "name": "partage", "version": version}},
        "components": components,
        "dependencies": [{"ref": "partage", "dependsOn": sorted(c["bom-ref"] for c in components)}],
    }


def wheel_component(path: Path) -> Object:
    """Return a Python package as its wheel describes itself. Raises ``ValueError`` for a file that is no wheel."""
    metadata = _metadata(path)
    name, version = str(metadata["Name"]), str(metadata["Version"])
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": digest(path)}],
        **_licences(metadata),
    }


def file_component(kind: str, path: Path) -> Object:
    """Return any other file by its name and sum."""
    return {
        "type": kind,
        "bom-ref": f"file:{path.name}",
        "name": path.name,
        "version": digest(path)[:12],
        "hashes": [{"alg": "SHA-256", "content": digest(path)}],
    }


def _metadata(path: Path) -> Any:
    with zipfile.ZipFile(path) as wheel:
        for name in wheel.namelist():
            if name.endswith(".dist-info/METADATA"):
                return BytesParser().parsebytes(wheel.read(name), headersonly=True)
    raise ValueError(f"{path.name} has no METADATA: it is no wheel")


def _licences(metadata: Any) -> Object:
    expression = metadata.get("License-Expression")
    if expression:
        return {"licenses": [{"expression": str(expression)}]}
    classifiers = [str(each) for each in metadata.get_all("Classifier") or ()]
    named = [each.rsplit(" :: ", 1)[-1] for each in classifiers if each.startswith("License :: ")]
    said = str(metadata.get("License") or "").strip().split("\n")[0]
    words = [word for word in (*named, said) if word and len(word) <= LONGEST_NAME]
    return {"licenses": [{"license": {"name": word}} for word in words[:1]]} if words else {}
