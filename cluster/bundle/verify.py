"""Checks a bundle where it arrived: `python3 verify.py [FOLDER]`. Needs Python alone and writes nothing."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

SUMS = "SHA256SUMS"
CHUNK = 1 << 20


def faults(folder: Path) -> list[str]:
    """Return what is wrong with the bundle, one sentence each; empty if every file is there, unchanged and named."""
    sums = folder / SUMS
    if not sums.is_file():
        return [f"{SUMS} is missing: this is no bundle, or not all of it"]
    found: list[str] = []
    named: set[str] = set()
    for number, line in enumerate(sums.read_text(encoding="utf-8").splitlines(), start=1):
        wanted, separator, name = line.partition("  ")
        if not separator or len(wanted) != hashlib.sha256().digest_size * 2:
            found.append(f"{SUMS} line {number} is not understood")
            continue
        named.add(name)
        found += _fault(folder, name, wanted)
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.is_symlink()}
    found += [f"{name} is not named in {SUMS}" for name in sorted(present - named - {SUMS})]
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of the file, in hex."""
    running = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            running.update(part)
    return running.hexdigest()


def _fault(folder: Path, name: str, wanted: str) -> list[str]:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or path.is_symlink():
        return [f"{name} leads out of the bundle"]
    if not path.is_file():
        return [f"{name} is missing"]
    return [] if digest(path) == wanted else [f"{name} is not what was packed"]


def main(arguments: list[str]) -> int:
    """Say what is wrong, or how much is right; 0 only if all of it is."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    wrong = faults(folder)
    for sentence in wrong:
        sys.stdout.write(f"{sentence}\n")
    if wrong:
        return 1
    count = len((folder / SUMS).read_text(encoding="utf-8").splitlines())
    sys.stdout.write(f"{count} files are what was packed; compare {SUMS} itself with the sum that came another way:\n")
    sys.stdout.write(f"{digest(folder / SUMS)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
