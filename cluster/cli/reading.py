"""Commands that look and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli import columns, completion
from cluster.cli.screen import Column, Output, OutputUnknown, Row, show, warn_if_simulated, written

ContextName = Annotated[str | None, typer.Option("--context", help="Context of the configuration to use.")]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="File with the token to use.")]


def _output(text: str) -> Output:
    try:
        return Output.parse(text)
    except OutputUnknown as error:
        raise typer.BadParameter(str(error)) from error


OutputKind = Annotated[
    Output,
    typer.Option(
        "--output",
        "-o",
        parser=_output,
        metavar="KIND",
        help="table, wide, json, yaml, name or jsonpath=EXPRESSION.",
        autocompletion=completion.outputs,
    ),
]

KINDS: dict[str, tuple[str, Callable[[int], list[Column]], Callable[[Row], str]]] = {
    "claims": ("/v1/claims", columns.claim_columns, lambda row: row["claim"]["id"]),
    "tenants": ("/v1/tenants", columns.tenant_columns, lambda row: row["id"]),
    "devices": ("/v1/devices", columns.device_columns, lambda row: row["id"]),
    "workers": ("/v1/workers", columns.worker_columns, lambda row: row["id"]),
    "groups": ("/v1/groups", columns.group_columns, lambda row: row["id"]),
    "nodes": ("/v1/nodes", columns.node_columns, lambda row: row["id"]),
    "models": ("/v1/models", columns.model_columns, lambda row: row["id"]),
    "reservations": ("/v1/reservations", columns.reservation_columns, lambda row: row["id"]),
    "keys": ("/v1/keys", columns.key_columns, lambda row: row["prefix"]),
}
"""What can be listed: where it is, how it looks, what it is called."""

UNPAGED: dict[str, tuple[str, Callable[[int], list[Column]], Callable[[Row], str]]] = {
    "moves": ("/v1/moves", columns.move_columns, lambda row: row["device"]),
    "decisions": ("/v1/decisions", columns.decision_columns, lambda row: str(row["number"])),
    "verdicts": (
        "/v1/verdicts",
        lambda now: [
            Column(title="GPU", cell=lambda row: row["device"]),
            Column(title="HEALTH", cell=lambda row: row["health"]),
            Column(title="SINCE", cell=lambda row: columns.since(row["since_ms"], now)),
            Column(title="REASON", cell=lambda row: row["reason"]),
            Column(title="REMEDY", cell=lambda row: row["remedy"]),
        ],
        lambda row: row["device"],
    ),
    "cordons": (
        "/v1/cordons",
        lambda now: [
            Column(title="SUBJECT", cell=lambda row: row["subject"]),
            Column(title="KIND", cell=lambda row: row["kind"]),
            Column(title="SINCE", cell=lambda row: columns.since(row["since_ms"], now)),
            Column(title="BY", cell=lambda row: row["actor"]),
            Column(title="REASON", cell=lambda row: row["reason"]),
        ],
        lambda row: row["subject"],
    ),
}
"""Lists that come whole."""

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show again on every change, until Ctrl-C.")]


def get(
    kind: Annotated[
        str, typer.Argument(help=f"One of: {', '.join([*KINDS, *UNPAGED])}.", autocompletion=completion.kinds)
    ],
    name: Annotated[str | None, typer.Argument(help="Show this one alone.", autocompletion=completion.named)] = None,
    output: OutputKind = Output.TABLE,
    watch: Watch = False,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """List what there is.

    Example: partage get claims -o wide; partage get claims -o jsonpath='{[*].claim.id}'
    """
    from cluster.cli.contexts import connect
    from cluster.cli.watching import repeat
    from cluster.clock import SystemClock

    plural = _plural(kind)
    path, made, named = {**KINDS, **UNPAGED}[plural]
    client, clock = connect(context, token_file), SystemClock()
    warned: list[bool] = []

    def draw() -> str:
        rows = client.items(path) if plural in KINDS else client.get(path)
        chosen = [row for row in rows if name is None or named(row) == name]
        if name is not None and not chosen:
            raise Missing(plural.removesuffix("s"), name, [named(row) for row in rows])
        if not warned:
            warned.append(True)
            _warn(chosen)
        data = chosen[0] if name is not None and output.is_data else chosen
        return written(data, made(clock.now_ms()), output, name=named)

    repeat(draw, watch=watch)


def _plural(kind: str) -> str:
    """Return the kind as it is listed: plural, however it was written. Raises ``BadParameter`` with the nearest."""
    listed = [*KINDS, *UNPAGED]
    if kind in listed:
        return kind
    if f"{kind}s" in listed:
        return f"{kind}s"
    import difflib

    near = difflib.get_close_matches(kind, listed, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise typer.BadParameter(f"{kind!r} is no kind; {hint}there are {', '.join(listed)}")


def shares(
    output: OutputKind = Output.TABLE,
    watch: Watch = False,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Show who is entitled to what, holds what, borrows and lends what. Amounts are devices."""
    from cluster.cli.contexts import connect
    from cluster.cli.watching import repeat

    client = connect(context, token_file)
    _warn(client.items("/v1/devices"))
    repeat(lambda: written(client.items("/v1/shares"), columns.share_columns(0), output), watch=watch)


def why(
    kind: Annotated[str, typer.Argument(help="claim")],
    name: Annotated[str, typer.Argument(help="Such as civil/justice:chat.", autocompletion=completion.claims)],
    change: Annotated[bool, typer.Option("--change", help="Look for what would admit it on any platform.")] = False,
    snapshot: Annotated[Path | None, typer.Option(help="Saved snapshot, with --policy: needs no platform.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy document, with --snapshot.")] = None,
    output: OutputKind = Output.TABLE,
    watch: Watch = False,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Say why a claim is where it is, what would change it, and until when.

    The smallest change that would admit it is found by deciding again as if it were made: unasked where there are at
    most 500 claims, else with --change. With --snapshot and --policy the decision is taken from these files.

    Example: partage why claim civil/justice:chat
    """
    from cluster.cli.contexts import connect
    from cluster.cli.texts import reason_text
    from cluster.cli.watching import repeat
    from cluster.clock import SystemClock

    if kind not in {"claim", "claims"}:
        raise typer.BadParameter("only a claim has a reason: partage why claim NAME")
    if (snapshot is None) is not (policy is None):
        raise typer.BadParameter("--snapshot and --policy belong together")
    if snapshot is not None and policy is not None:
        reason, now_ms = reason_in_files(name, snapshot, policy)
        typer.echo(
            written(reason, [], output) if output.is_data else reason_text(reason, now_ms), nl=not output.is_data
        )
        return
    client = connect(context, token_file)

    def draw() -> str:
        reason = client.get(f"/v1/claims/{name}/why", change="always" if change else "auto")
        return written(reason, [], output) if output.is_data else reason_text(reason, SystemClock().now_ms()) + "\n"

    repeat(draw, watch=watch)


WORK_ON_FILES = 2_000_000
"""Claims decided upon in one search for a change: a minute or so on a large platform."""


def reason_in_files(name: str, snapshot: Path, policy: Path) -> tuple[dict[str, Any], int]:
    """Return why the claim of the snapshot is where it is, with what would admit it, and the snapshot's time."""
    from cluster.cli.documents import policy_in, snapshot_in
    from policies.decide import decide
    from policies.explaining.queueing import told
    from policies.explaining.releasing import for_operator
    from policies.model.codec import to_plain
    from policies.model.memory import Memory
    from policies.model.units import ClaimId
    from policies.supposing import Situation
    from policies.unblock import affordable, explained, search

    seen, rules = snapshot_in(snapshot), policy_in(policy)
    now = Situation(snapshot=seen, policy=rules, memory=Memory(), now_ms=seen.observed_at_ms)
    decision = decide(now.snapshot, now.policy, now.memory, now.now_ms)
    reason = for_operator(told(decision, seen.claims), ClaimId(name))
    if reason is None:
        raise typer.BadParameter(f"{snapshot} holds no claim {name}")
    found = search(now, reason.claim, affordable(len(seen.claims), WORK_ON_FILES))
    plain: dict[str, Any] = to_plain(explained(reason, found))
    return plain, now.now_ms


def describe(
    kind: Annotated[str, typer.Argument(help="claim")],
    name: Annotated[str, typer.Argument(help="Name of the claim.", autocompletion=completion.claims)],
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Show all about one claim: what it asks for, its groups, its reason, its latest events."""
    from cluster.cli.contexts import connect
    from cluster.cli.texts import claim_text
    from cluster.clock import SystemClock

    if kind not in {"claim", "claims"}:
        raise typer.BadParameter("describe claim NAME; for other kinds use: partage get KIND NAME -o yaml")
    client = connect(context, token_file)
    status = client.get(f"/v1/claims/{name}")
    own = client.get("/v1/events", newest=True, limit=500, subject=name)["items"]
    _warn(client.items("/v1/devices"))
    typer.echo(claim_text(status, own, SystemClock().now_ms()))


def logs(
    name: Annotated[str, typer.Argument(help="Name of the job's claim.")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=5_000, help="Most lines, the last ones.")] = 100,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Show what a job wrote, all of its runs one after another; also after its claim has ended.

    Example: partage logs civil/justice:train --lines 20
    """
    from cluster.cli.contexts import connect

    for line in connect(context, token_file).get(f"/v1/claims/{name}/log", lines=lines)["lines"]:
        # What a program wrote must not be able to steer the terminal of whoever reads it.
        typer.echo("".join(sign if sign.isprintable() or sign == "\t" else "?" for sign in line))


def status(
    output: OutputKind = Output.TABLE,
    watch: Watch = False,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Show the platform on one screen."""
    from cluster.cli.contexts import connect
    from cluster.cli.texts import status_text
    from cluster.cli.watching import repeat

    client = connect(context, token_file)
    warn_if_simulated(simulated=client.get("/v1/status")["simulated"])

    def draw() -> str:
        found = client.get("/v1/status")
        return written(found, [], output) if output.is_data else status_text(found, client.items("/v1/shares")) + "\n"

    repeat(draw, watch=watch)


def events(
    for_: Annotated[
        str | None, typer.Option("--for", help="Only events about this, such as civil/justice:chat.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with what happens, until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many of the newest to show.")] = 50,
    output: OutputKind = Output.TABLE,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Show what happened, who did it and when.

    Example: partage events --for civil/justice:chat --watch
    """
    from cluster.cli.contexts import connect
    from cluster.cli.texts import event_line

    client = connect(context, token_file)
    about = {"subject": for_} if for_ else {}
    found = client.get("/v1/events", newest=True, limit=limit, **about)
    chosen = found["items"]
    if output.is_data:
        show(chosen, [], output)
    else:
        for event in chosen:
            typer.echo(event_line(event))
    if watch:
        for event in client.watch("/v1/events/watch", after=found["revision"]):
            if for_ in {None, event["subject"]}:
                typer.echo(event_line(event))


class Missing(Exception):
    """Nothing of that kind has that name."""

    code = "not_found"

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        super().__init__(kind, name, known)
        self.kind, self.name, self.known = kind, name, known

    def __str__(self) -> str:
        import difflib

        near = difflib.get_close_matches(self.name, self.known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"`partage get {self.kind}s` lists them"
        return f"there is no {self.kind} {self.name!r}; {hint}"


def _warn(rows: list[Any]) -> None:
    warn_if_simulated(simulated=any(row.get("simulated") for row in rows))
