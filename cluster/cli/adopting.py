"""`partage adopt`: after a lost journal, what runs is accounted for by claims before the control plane acts again."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cluster.cli.exits import Exit
from cluster.cli.reading import ContextName, TokenFile
from cluster.cli.screen import say

HEAD = """# Claims that would account for what runs. Guessed: the class, and that no more replicas are wanted than run.
# Look through it, then: partage apply -f THIS_FILE
"""


def adopt(
    propose: Annotated[
        bool, typer.Option("--propose", help="Print the claims that would account for what runs; change nothing.")
    ] = False,
    stop_the_rest: Annotated[
        bool, typer.Option("--stop-the-rest", help="Adopt although something runs that no claim asks for: it stops.")
    ] = False,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Say that the journal accounts for what runs. From here on, what no claim asks for is stopped.

    Refused, with exit status 1, while something runs that no claim asks for.

    Example: partage adopt --propose > claims.yaml; partage apply -f claims.yaml; partage adopt
    """
    from cluster.cli.contexts import connect

    client = connect(context, token_file)
    found = client.get("/v1/adopt")
    if propose:
        _propose(found)
        return
    if found["unaccounted"] and not found["adopted"] and not stop_the_rest:
        for group in found["unaccounted"]:
            say(f"  runs without a claim: {group['id']} of {group['claim']}, {group['replicas']} replicas")
        say("adopting now would stop these; `partage adopt --propose > claims.yaml` writes claims that keep them,")
        say("`partage apply -f claims.yaml` asks for them, and `partage adopt --stop-the-rest` lets them go")
        raise typer.Exit(Exit.ERROR)
    client.call("POST", "/v1/adopt")
    say("adopted: the control plane acts again")


def _propose(found: dict[str, Any]) -> None:
    import yaml

    for name in found["unknown"]:
        say(f"{name}: its variant is in no catalogue; write this claim by hand (`partage get groups` shows it)")
    if not found["proposed"]:
        say("every group that runs has its claim" if not found["unknown"] else "nothing else to propose")
        return
    kept = ("id", "tenant", "kind", "model", "priority_class", "min_replicas", "desired_replicas", "max_replicas")
    documents = [
        {
            "apiVersion": "partage/v1",
            "kind": "Claim",
            "spec": {name: claim[name] for name in kept if claim[name] is not None} | {"ladder": _rungs(claim)},
        }
        for claim in found["proposed"]
    ]
    sys.stdout.write(HEAD + yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True))


def _rungs(claim: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in shape.items() if value not in (None, 0)} for shape in claim["ladder"]]
