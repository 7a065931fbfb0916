"""Packs the bundle: wheels, chart, images where a builder exists, models manifest, bill of materials, checksums."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.bundle import verify
from cluster.bundle.sbom import bill
from policies.model.catalogue import Model, Variant
from policies.model.codec import from_plain
from policies.model.units import ModelId, VariantId

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "serving" / "models"
"""Catalogue of the models that the platform comes with."""
BUILDERS = ("buildah", "podman", "docker")
IMAGES = ("control-plane", "ray")
COPIED = {
    "INSTALL.md": "runbooks/procedures/air-gapped-install.md",
    "KUBERNETES.md": "docs/kubernetes.md",
    "Containerfile": "Containerfile",
    "runtime.txt": "requirements/runtime.txt",
    "values-airgap.yaml": "helm/partage/values-airgap.yaml",
}
"""Files of the bundle's top folder, and where they come from."""
SOURCES = ("policies", "cluster", "serving", "pyproject.toml", "README.md")


class ToolFailed(Exception):
    """A program that packing needs did not do its work."""

    code = "tool_failed"

    def __init__(self, command: tuple[str, ...], said: str) -> None:
        super().__init__(command, said)
        self.command, self.said = command, said

    def __str__(self) -> str:
        return f"`{' '.join(self.command)}` failed: {self.said}"


Run = Callable[..., str]


def run(*command: str) -> str:
    """Return what the program said. Raises ``ToolFailed``."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolFailed(command, str(error)) from error
    if done.returncode != 0:
        raise ToolFailed(command, (done.stderr or done.stdout).strip()[-600:])
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """What is packed, and how."""

    target: Path
    version: str
    helm: str
    registry: str
    """Prefix of base and result images; empty leaves images out."""
    wheels: Path | None = None
    """Folder of wheels to take instead of downloading them."""
    models: tuple[Model, ...] = ()
    weights: Path | None = None
    """Folder with the weights that the models name; None leaves them to another way."""
    run: Run = run


def pack(packing: Packing) -> tuple[str, ...]:
    """Make the bundle anew; returns what was left out, one sentence each. Raises ``ToolFailed``."""
    shutil.rmtree(packing.target, ignore_errors=True)
    (packing.target / "charts").mkdir(parents=True)
    _wheels(packing)
    packing.run(
        packing.helm, "package", str(ROOT / "helm" / "partage"), "--destination", str(packing.target / "charts")
    )
    for name, where in COPIED.items():
        shutil.copy(ROOT / where, packing.target / name)
    shutil.copy(verify.__file__, packing.target / "verify.py")
    left_out = _images(packing) + _models(packing)
    (packing.target / "LEFT-OUT.txt").write_text("".join(f"{line}\n" for line in left_out) or "nothing\n")
    _bill(packing)
    _sums(packing.target)
    return left_out


def _wheels(packing: Packing) -> None:
    folder = packing.target / "wheels"
    if packing.wheels is not None:
        shutil.copytree(packing.wheels, folder)
        return
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    requirements = str(ROOT / "requirements" / "runtime.txt")
    options = ("--require-hashes", "--only-binary", ":all:", "--no-deps", "--dest", str(folder))
    packing.run(*pip, "download", "--requirement", requirements, *options)
    with tempfile.TemporaryDirectory() as copy:  # building in place would leave files, and pick up old ones
        for name in SOURCES:
            whole = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            whole(ROOT / name, Path(copy) / name)
        packing.run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), copy)


def _images(packing: Packing) -> tuple[str, ...]:
    builder = next((name for name in BUILDERS if _works(packing, name)), None)
    if not packing.registry or builder is None:
        why = (
            "no prefix of a registry was given" if not packing.registry else "none of " + ", ".join(BUILDERS) + " works"
        )
        how = "build them from Containerfile and wheels inside the site"
        return (f"images are left out, as {why}; {how}",)
    (packing.target / "images").mkdir()
    for image in IMAGES:
        tag = f"{packing.registry}/partage/{image}:{packing.version}"
        arguments = ("--build-arg", f"REGISTRY={packing.registry}", "--target", image, "--tag", tag)
        packing.run(builder, "build", *arguments, "--file", str(packing.target / "Containerfile"), str(packing.target))
        packing.run(builder, "save", "--output", str(packing.target / "images" / f"{image}.tar"), tag)
    return ()


def _works(packing: Packing, builder: str) -> bool:
    try:
        packing.run(builder, "info")
    except ToolFailed:
        return False
    return True


def _models(packing: Packing) -> tuple[str, ...]:
    folder = packing.target / "models"
    folder.mkdir()
    variants = [(model, variant) for model in packing.models for variant in model.variants if variant.weights]
    listed = [
        {
            "model": model.id,
            "variant": variant.id,
            "file": variant.weights,
            "sha256": variant.sha256 or None,
            "sizeMiB": variant.weights_mib,
            "licence": model.licence,
            "engine": variant.engine,
        }
        for model, variant in variants
    ]
    (folder / "manifest.json").write_text(json.dumps({"models": listed}, indent=1, sort_keys=True) + "\n")
    missing = []
    for _, variant in variants:
        source = packing.weights / variant.weights if packing.weights else None
        if source is not None and source.is_file():
            (folder / variant.weights).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / variant.weights)
        else:
            missing.append(f"weights {variant.weights} are left out; the manifest says what they must be")
    return tuple(missing)


def _bill(packing: Packing) -> None:
    wheels = sorted((packing.target / "wheels").glob("*.whl"))
    others = [("application", path) for path in sorted((packing.target / "charts").glob("*.tgz"))]
    others += [("container", path) for path in sorted((packing.target / "images").glob("*.tar"))]
    others += [
        ("machine-learning-model", p)
        for p in sorted((packing.target / "models").rglob("*"))
        if p.suffix != ".json" and p.is_file()
    ]
    document = bill(packing.version, wheels, others)
    (packing.target / "sbom.cdx.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def _sums(folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != verify.SUMS)
    lines = [f"{verify.digest(path)}  {path.relative_to(folder)}\n" for path in paths]
    (folder / verify.SUMS).write_text("".join(lines))


def main(arguments: list[str] | None = None) -> int:
    """Pack, check what was packed, and say what was left out."""
    parser = argparse.ArgumentParser(prog="python -m cluster.bundle.build", description=__doc__)
    parser.add_argument("--target", type=Path, default=ROOT / "dist" / "bundle")
    parser.add_argument("--helm", default="helm", help="the helm program")
    parser.add_argument("--registry", default="", help="prefix of base and result images; without it none are built")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to take instead of downloading them")
    parser.add_argument(
        "--catalogue", type=Path, help="models on offer, as `partage prepare` writes them; else those that are shipped"
    )
    parser.add_argument("--weights", type=Path, help="folder of the weights")
    chosen = parser.parse_args(arguments)
    packing = Packing(
        target=chosen.target,
        version=_version(),
        helm=chosen.helm,
        registry=chosen.registry,
        wheels=chosen.wheels,
        models=models_offered(chosen.catalogue),
        weights=chosen.weights,
    )
    try:
        left_out = pack(packing)
    except ToolFailed as failed:
        sys.stderr.write(f"{failed}\n")
        return 1
    for line in left_out:
        sys.stdout.write(f"{line}\n")
    status = verify.main([str(packing.target)])
    sys.stdout.write(f"where it arrives: python3 {verify.__name__.rpartition('.')[2]}.py\n")
    return status


def _version() -> str:
    import tomllib

    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(found["project"]["version"])


def _listed(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def _offered(plain: dict[str, Any]) -> Model:
    """Return a model of the shipped catalogue with what its manifest needs."""
    variants = tuple(
        Variant(
            id=VariantId(each["id"]),
            engine=each["engine"],
            precision=each.get("precision", ""),
            weights=each.get("weights", ""),
            weights_mib=each.get("weights_mib", 0),
            sha256=each.get("sha256", ""),
        )
        for each in plain["variants"]
    )
    licence, context = plain.get("licence", ""), plain["context_tokens"]
    return Model(id=ModelId(plain["id"]), context_tokens=context, licence=licence, variants=variants)


def models_offered(path: Path | None) -> tuple[Model, ...]:
    """Return the models of a catalogue document; without one those that the platform comes with."""
    if path is None:
        return tuple(_offered(plain) for file in sorted(SHIPPED.glob("*.yaml")) for plain in _listed(file))
    found = json.loads(path.read_text(encoding="utf-8"))
    listed = found["models"] if isinstance(found, dict) else found
    return tuple(from_plain(Model, plain) for plain in listed)


if __name__ == "__main__":
    sys.exit(main())
