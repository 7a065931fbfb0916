"""Commands that change what is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli import completion
from cluster.cli.documents import text_in
from cluster.cli.exits import Exit
from cluster.cli.reading import ContextName, TokenFile
from cluster.cli.screen import say

if TYPE_CHECKING:
    from cluster.client import Client

File = Annotated[Path, typer.Option("--file", "-f", help="YAML file; - reads standard input.", allow_dash=True)]
POLL_MS = 500


def apply(
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Let the server check it; change nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return once every claim is served.")] = False,
    timeout_s: Annotated[int, typer.Option("--timeout", min=1, help="Longest wait, in seconds.")] = 120,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Ask for what the file says: a policy, or claims. The same file again changes nothing.

    Example: partage apply -f claims.yaml --wait
    """
    from cluster.cli.contexts import connect
    from policies.documents.document import kind_of

    client, text = connect(context, token_file), text_in(file)
    if kind_of(text, str(file)) == "Policy":
        _apply_policy(client, text, file, dry_run=dry_run)
        return
    names = _apply_claims(client, text, file, dry_run=dry_run)
    if wait and not dry_run:
        _wait(client, names, timeout_s)


def diff(file: File, context: ContextName = None, token_file: TokenFile = None) -> None:
    """Show what apply would change. Exit status: 0 nothing, 1 differences, above 1 an error."""
    import difflib

    import yaml

    from cluster.cli.contexts import connect

    client, text = connect(context, token_file), text_in(file)
    different = False
    for name, now, then in _compared(client, text, file):
        before, after = (yaml.safe_dump(side, sort_keys=True).splitlines() if side else [] for side in (now, then))
        lines = list(difflib.unified_diff(before, after, f"live/{name}", f"file/{name}", lineterm=""))
        different = different or bool(lines)
        for line in lines:
            typer.echo(line)
    if different:
        raise typer.Exit(Exit.ERROR)


def delete(
    kind: Annotated[str, typer.Argument(help="claim or key")],
    name: Annotated[
        str, typer.Argument(help="Name of the claim, or prefix of the key.", autocompletion=completion.named)
    ],
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Take back what was asked for: the claim's groups drain and stop; the key is refused from now on.

    At a terminal it asks first; `partage --no-input delete ...` and scripts are not asked.
    """
    from cluster.cli.asking import sure
    from cluster.cli.contexts import connect

    client = connect(context, token_file)
    if kind not in {"claim", "key"}:
        raise typer.BadParameter("delete claim NAME, or delete key PREFIX")
    path = f"/v1/claims/{name}" if kind == "claim" else f"/v1/keys/{name}"
    etag = client.call("GET", path).etag if kind == "claim" else None
    loss = "its groups drain and stop" if kind == "claim" else "whoever uses it is refused at once"
    sure(f"Delete {kind} {name}? {loss[0].upper()}{loss[1:]}.")
    client.call("DELETE", path, headers={"If-Match": etag} if etag else {})
    say(f"{kind} {name} deleted")


def drain(
    name: Annotated[str, typer.Argument(help="Node or device.", autocompletion=completion.places)],
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who ask later.")],
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Take a node or device out of use: it is emptied and receives nothing. `uncordon` puts it back."""
    from cluster.cli.contexts import connect

    connect(context, token_file).call("PUT", f"/v1/cordons/{name}", body={"reason": reason})
    say(f"{name} is being drained; watch it with: partage get groups --watch")


def uncordon(
    name: Annotated[str, typer.Argument(help="Node or device.", autocompletion=completion.places)],
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Put a node or device back into use."""
    from cluster.cli.contexts import connect

    connect(context, token_file).call("DELETE", f"/v1/cordons/{name}")
    say(f"{name} is in use again")


def _apply_policy(client: Client, text: str, file: Path, *, dry_run: bool) -> None:
    from cluster.client import Problem
    from policies.documents.document import parse_policy
    from policies.model.codec import to_plain

    policy, etag, now = parse_policy(text, str(file)), None, None
    try:
        answer = client.call("GET", "/v1/policy")
        etag, now = answer.etag, answer.body
    except Problem as problem:
        if problem.code != "no_policy":
            raise
    if now == _with_mode(to_plain(policy), now):
        say(f"policy {policy.revision} unchanged")
    elif dry_run:
        say(f"policy {policy.revision} would be put in force; `partage plan -f` shows what it would move")
    else:
        condition = {"If-Match": etag} if etag else {"If-None-Match": "*"}
        client.call("PUT", "/v1/policy", body=to_plain(policy), headers=condition)
        say(f"policy {policy.revision} in force")
        _warn_of_floors(client)


def _warn_of_floors(client: Client) -> None:
    """Say which floors of the policy in force could not come back in time; nothing before the first turn."""
    from cluster.client import Problem

    try:
        proofs = client.get("/v1/policy/floors")
    except Problem as problem:
        if problem.code != "not_ready":
            raise
        return
    for proof in proofs:
        if not proof["is_recoverable"]:
            say(f"warning: floor not kept: {proof['sentence']}")


def _with_mode(policy: dict[str, Any], now: Any) -> dict[str, Any]:
    """Return the policy with the mode declared now: a document that names none leaves that one in force."""
    return {**policy, "declaration": policy["declaration"] or now["declaration"]} if now else policy


def _apply_claims(client: Client, text: str, file: Path, *, dry_run: bool) -> list[str]:
    names = []
    for name, now, then in _compared(client, text, file):
        if now == then:
            word = "unchanged"
        else:
            word = "configured" if now else "created"
            if not dry_run:
                _put(client, name, then)
        say(f"claim {name} {word}" + (" (dry run)" if dry_run else ""))
        names.append(name)
    return names


def _compared(client: Client, text: str, file: Path) -> list[tuple[str, Any, Any]]:
    """Return, for each document, its name, what is stored, and what would be."""
    from policies.documents.document import kind_of, parse_claims, parse_policy
    from policies.model.codec import to_plain

    if kind_of(text, str(file)) == "Policy":
        now = client.get("/v1/policy")
        return [("policy", now, _with_mode(to_plain(parse_policy(text, str(file))), now))]
    found: list[tuple[str, Any, Any]] = []
    for claim in parse_claims(text, str(file)):
        now = _stored(client, claim.id)
        condition = {"If-Match": "*"} if now else {"If-None-Match": "*"}
        path = f"/v1/claims/{claim.id}"
        then = client.call("PUT", path, body=to_plain(claim), query={"dry_run": "true"}, headers=condition).body
        found.append((claim.id, now, then))
    return found


def _stored(client: Client, name: str) -> Any:
    from cluster.client import Problem

    try:
        return client.get(f"/v1/claims/{name}")["claim"]
    except Problem as problem:
        if problem.code != "not_found":
            raise
        return None


def _put(client: Client, name: str, claim: dict[str, Any]) -> None:
    generation = claim["generation"]
    condition = {"If-Match": f'"{generation}"'} if generation else {"If-None-Match": "*"}
    client.call("PUT", f"/v1/claims/{name}", body=claim, headers=condition)


def _wait(client: Client, names: list[str], timeout_s: int) -> None:
    from cluster.cli.watching import waiting_line
    from cluster.clock import SystemClock

    clock = SystemClock()
    began = clock.monotonic_ms()
    with waiting_line() as tell:
        while waiting := [name for name in names if not _served(client, name)]:
            waited_s = (clock.monotonic_ms() - began) // 1000
            if waited_s >= timeout_s:
                say(f"not served within {timeout_s} s: {', '.join(waiting)}; `partage why claim NAME` says why")
                raise typer.Exit(Exit.TIMEOUT)
            tell(f"{waited_s} s of at most {timeout_s}: waits for {', '.join(waiting)}")
            clock.sleep_ms(POLL_MS)


def _served(client: Client, name: str) -> bool:
    reason = client.get(f"/v1/claims/{name}")["reason"]
    return bool(reason) and reason["state"] == "served" and reason["code"] is None
