"""``python -m serving.prepare --cache DIR``: make missing weights, print the catalogue as JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from serving.catalogue import DEFAULT_MODEL, SHIPPED, entries, find
from serving.errors import ServingError
from serving.weights import manifest, prepare


def main(arguments: list[str] | None = None) -> int:
    """Print the catalogue on stdout, progress on stderr; return 0, or 1 if the weights could not be made."""
    parser = argparse.ArgumentParser(prog="serving.prepare", description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder of the weights; made if it does not exist")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model whose weights are wanted")
    parser.add_argument("--models", type=Path, help="further catalogue of this site")
    options = parser.parse_args(arguments)
    try:
        catalogue = entries(SHIPPED, *([options.models] if options.models else []))
        wanted = find(options.model, catalogue)
        ready = prepare(wanted, options.cache, _say)
    except ServingError as fault:
        _say(str(fault))
        return 1
    sys.stdout.write(manifest(tuple(ready if e is wanted else e.model for e in catalogue)) + "\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
