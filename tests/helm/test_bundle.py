"""The bundle: made from the same files it is the same, and whatever was changed on the way is found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.bundle import verify
from cluster.bundle.build import ROOT, Packing, ToolFailed, models_offered, pack, run
from policies.model.catalogue import Model, Variant
from policies.model.units import ModelId, VariantId
from tests.kubernetes_tools import tool

METADATA = "Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{more}\n\nlong text\n"
MODEL = Model(
    id=ModelId("small"),
    context_tokens=2048,
    licence="Apache-2.0",
    variants=(
        Variant(id=VariantId("q4"), engine="llama_cpp", precision="q4", weights="small/q4.gguf", weights_mib=1),
        Variant(id=VariantId("q8"), engine="llama_cpp", precision="q8", weights="small/q8.gguf", weights_mib=2),
    ),
)


def wheel(folder: Path, name: str, version: str, more: str = "") -> None:
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        entry = zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA")
        file.writestr(entry, METADATA.format(name=name, version=version, more=more))


@pytest.fixture
def packing(tmp_path: Path) -> Packing:
    wheels, weights = tmp_path / "wheels", tmp_path / "weights"
    (weights / "small").mkdir(parents=True)
    wheels.mkdir()
    (weights / "small" / "q4.gguf").write_bytes(b"weights")
    wheel(wheels, "partage", "0.1.0", "License-Expression: Apache-2.0")
    wheel(wheels, "other", "2.0", "Classifier: License :: OSI Approved :: MIT License")
    return Packing(
        target=tmp_path / "bundle",
        version="0.1.0",
        helm=str(tool("helm")),
        registry="",
        wheels=wheels,
        models=(MODEL,),
        weights=weights,
    )


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_has_everything_and_says_what_it_has_not(packing: Packing) -> None:
    left_out = pack(packing)
    assert names(packing.target) == {
        "wheels/partage-0.1.0-py3-none-any.whl",
        "wheels/other-2.0-py3-none-any.whl",
        "charts/partage-0.1.0.tgz",
        "models/manifest.json",
        "models/small/q4.gguf",
        "Containerfile",
        "INSTALL.md",
        "KUBERNETES.md",
        "runtime.txt",
        "values-airgap.yaml",
        "verify.py",
        "sbom.cdx.json",
        "LEFT-OUT.txt",
        "SHA256SUMS",
    }
    assert [line.split(" are left out")[0] for line in left_out] == ["images", "weights small/q8.gguf"]
    assert (packing.target / "LEFT-OUT.txt").read_text().splitlines() == list(left_out)


def test_it_is_checked_where_it_arrives_with_python_alone(packing: Packing, tmp_path: Path) -> None:
    pack(packing)
    command = [sys.executable, "-I", "-S", str(packing.target / "verify.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("13 files are what was packed")


@pytest.mark.parametrize(
    "name", ["charts/partage-0.1.0.tgz", "wheels/other-2.0-py3-none-any.whl", "verify.py", "sbom.cdx.json"]
)
def test_a_changed_byte_anywhere_is_found(packing: Packing, name: str) -> None:
    pack(packing)
    path = packing.target / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert verify.faults(packing.target) == [f"{name} is not what was packed"]


def test_missing_added_and_misleading_files_are_found(packing: Packing, tmp_path: Path) -> None:
    pack(packing)
    (packing.target / "wheels" / "other-2.0-py3-none-any.whl").unlink()
    (packing.target / "wheels" / "evil-1.0-py3-none-any.whl").write_text("x")
    (packing.target / "link").symlink_to(tmp_path)
    sums = packing.target / "SHA256SUMS"
    sums.write_text(sums.read_text() + "0" * 64 + "  ../outside\nnonsense\n")
    assert verify.faults(packing.target) == [
        "wheels/other-2.0-py3-none-any.whl is missing",
        "../outside leads out of the bundle",
        f"SHA256SUMS line {len(sums.read_text().splitlines())} is not understood",
        "link is not named in SHA256SUMS",
        "wheels/evil-1.0-py3-none-any.whl is not named in SHA256SUMS",
    ]


def test_a_folder_that_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    assert verify.faults(tmp_path) == ["SHA256SUMS is missing: this is no bundle, or not all of it"]


def test_the_bill_of_materials_names_every_file_with_licence_and_sum(packing: Packing) -> None:
    pack(packing)
    document = json.loads((packing.target / "sbom.cdx.json").read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", document["serialNumber"])
    found = {component["name"]: component for component in document["components"]}
    assert set(found) == {"partage", "other", "partage-0.1.0.tgz", "q4.gguf"}
    assert found["partage"]["licenses"] == [{"expression": "Apache-2.0"}]
    assert found["other"]["licenses"] == [{"license": {"name": "MIT License"}}]
    assert found["other"]["purl"] == "pkg:pypi/other@2.0"
    assert found["q4.gguf"]["type"] == "machine-learning-model"
    references = {component["bom-ref"] for component in document["components"]}
    assert set(document["dependencies"][0]["dependsOn"]) == references


def test_the_same_files_give_the_same_bill(packing: Packing) -> None:
    pack(packing)
    first = (packing.target / "sbom.cdx.json").read_text()
    chart = re.compile(r'"version": "[0-9a-f]{12}"|"content": "[0-9a-f]{64}"|urn:uuid:[0-9a-f-]{36}')
    pack(packing)
    assert chart.sub("", (packing.target / "sbom.cdx.json").read_text()) == chart.sub("", first)


def test_the_models_manifest_says_what_each_file_must_be(packing: Packing) -> None:
    pack(packing)
    listed = json.loads((packing.target / "models" / "manifest.json").read_text())["models"]
    assert [(each["file"], each["licence"], each["sizeMiB"]) for each in listed] == [
        ("small/q4.gguf", "Apache-2.0", 1),
        ("small/q8.gguf", "Apache-2.0", 2),
    ]


def test_without_another_catalogue_the_manifest_names_every_shipped_model(packing: Packing) -> None:
    shipped = models_offered(None)
    left_out = pack(replace(packing, models=shipped))
    manifest = json.loads((packing.target / "models" / "manifest.json").read_text())["models"]
    families = {line["model"] for line in manifest}
    assert families == {model.id for model in shipped if any(variant.weights for variant in model.variants)}
    assert {"smollm2-135m-instruct", "ministral-3-3b"} <= families
    assert sum(line.startswith("weights ") for line in left_out) == len(manifest)


def test_images_are_built_and_saved_where_a_builder_works(packing: Packing) -> None:

    said: list[tuple[str, ...]] = []

    def builder(*command: str) -> str:
        if command[0] == "buildah":
            raise ToolFailed(command, "not here")
        if command[0] != "podman":
            return run(*command)
        said.append(command)
        if command[1] == "save":
            Path(command[3]).write_bytes(b"image")
        return ""

    left_out = pack(replace(packing, registry="registry.site.internal", run=builder))
    assert [line for line in left_out if line.startswith("images")] == []
    assert {name for name in names(packing.target) if name.startswith("images")} == {
        "images/control-plane.tar",
        "images/ray.tar",
    }
    assert [command[1] for command in said] == ["info", "build", "save", "build", "save"]
    assert "REGISTRY=registry.site.internal" in said[1]


def test_a_tool_that_is_missing_is_named(packing: Packing) -> None:
    from dataclasses import replace

    with pytest.raises(ToolFailed, match="/nowhere/helm package"):
        pack(replace(packing, helm="/nowhere/helm"))


class Recipe:
    """The Containerfile, instruction by instruction."""

    def __init__(self) -> None:
        text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.steps = [tuple(line.split(None, 1)) for line in lines]

    def of(self, word: str) -> list[str]:
        return [rest for step, rest in self.steps if step == word]


def test_images_take_only_what_the_bundle_and_the_registry_hold() -> None:
    recipe = Recipe()
    assert all(
        source.startswith("${REGISTRY}/") or source.split()[0] in {"base", "build"} for source in recipe.of("FROM")
    )
    assert recipe.of("ADD") == []
    assert all("--no-index" in step for step in recipe.of("RUN") if "pip install" in step)
    assert not re.search(r"curl|wget|apt-get|https?://|latest", " ".join(rest for _, rest in recipe.steps))


def test_images_run_as_nobody_in_particular_and_can_do_without_a_writable_root() -> None:
    recipe = Recipe()
    assert recipe.of("USER") == ["10001:10001"]
    assert "PYTHONDONTWRITEBYTECODE=1" in " ".join(recipe.of("ENV"))
    stages = [source.split(" AS ")[1] for source in recipe.of("FROM")]
    assert stages == ["build", "base", "control-plane", "ray"]
