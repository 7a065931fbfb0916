"""Commands on files: the pure core, without any platform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.documents import noun_in, policy_in, snapshot_in
from cluster.cli.exits import Exit
from cluster.cli.reading import ContextName, OutputKind, TokenFile
from cluster.cli.screen import Column, Output, printable, say, show, warn_if_simulated

if TYPE_CHECKING:
    from policies.invariants import Violation
    from policies.model.decision import Decision
    from policies.model.policy import Policy
    from policies.model.snapshot import Snapshot

SnapshotFile = Annotated[Path, typer.Option("--snapshot", help="File from `partage snapshot save`.")]
PolicyFile = Annotated[Path, typer.Option("--policy", help="Policy document (YAML), or one saved as JSON.")]
NOUNS = ("policy", "snapshot", "decision", "claim", "plan")


def decide(
    snapshot: SnapshotFile,
    policy: PolicyFile,
    memory: Annotated[Path | None, typer.Option("--memory", help="Memory of the decision before (JSON).")] = None,
    output: OutputKind = Output.TABLE,
) -> None:
    """Take the decision that the control plane would take from these files. Changes nothing.

    The time is that of the snapshot, so the same files always give the same answer, byte for byte.
    """
    from policies.decide import decide as taken
    from policies.explaining.queueing import told
    from policies.model.codec import to_plain
    from policies.model.memory import Memory

    seen, rules = snapshot_in(snapshot), policy_in(policy)
    remembered = noun_in(Memory, memory) if memory else Memory()
    decision = taken(seen, rules, remembered, seen.observed_at_ms)
    warn_if_simulated(simulated=any(device.simulated for device in seen.devices))
    if output.is_data:
        show(to_plain(told(decision, seen.claims)), [], output)
        return
    show([to_plain(reason) for reason in decision.reasons], REASON_COLUMNS, output)
    for eviction in decision.evictions:
        say(f"evicts {eviction.group} ({eviction.reason}), for {eviction.beneficiary or 'nobody'}")


REASON_COLUMNS = [
    Column(title="CLAIM", cell=lambda row: row["claim"]),
    Column(title="STATE", cell=lambda row: row["state"]),
    Column(title="REASON", cell=lambda row: row["code"]),
    Column(title="GRANTED", cell=lambda row: f"{row['granted_replicas']}/{row['wanted_replicas']}", right=True),
    Column(title="WHY", cell=lambda row: row["sentence"]),
]


def check(
    snapshot: SnapshotFile,
    decision: Annotated[Path, typer.Option("--decision", help="Decision as JSON, from `partage decide -o json`.")],
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Policy that it was taken under (YAML or JSON): checks all rules.")
    ] = None,
    output: OutputKind = Output.TABLE,
) -> None:
    """Let the second program check a decision, and with its policy the plan that it leads to.

    Without `--policy` only what follows from the two files: devices, domains, gangs, ladders, who leaves and what is
    said of it. Exit status 1 if there is an objection, one line for each.
    """
    from policies.invariants import check_alone
    from policies.model.codec import to_plain
    from policies.model.decision import Decision

    seen, decided = snapshot_in(snapshot), noun_in(Decision, decision)
    actions, violations = 0, check_alone(seen, decided)
    if policy is not None:
        actions, violations = _checked_by_rules(seen, decided, policy_in(policy))
    if output.is_data:
        show([to_plain(violation) for violation in violations], [], output)
    for violation in () if output.is_data else violations:
        subject = "" if violation.subject in violation.sentence else f"{violation.subject}: "
        typer.echo(printable(f"{violation.rule}: {subject}{violation.sentence}"))
    if violations:
        raise typer.Exit(Exit.ERROR)
    told = f"{actions} actions" if policy else "quotas, floors, classes, modes and moves need --policy"
    say(f"no objection; {told}")


def _checked_by_rules(seen: Snapshot, decided: Decision, rules: Policy) -> tuple[int, tuple[Violation, ...]]:
    """Return how many actions the decision leads to, and what is wrong with it; a sound one's plan is checked too."""
    from policies.invariants import Violation, check_decision
    from policies.invariants import check as checked
    from policies.model.codec import digest
    from policies.planning import plan as plan_moves

    found = check_decision(seen, decided, rules)
    if decided.policy_digest != digest(rules):
        sentence = f"it was taken under rules with the digest {decided.policy_digest}, these have {digest(rules)}"
        found = (Violation(rule="decision_is_of_this_policy", subject=rules.revision, sentence=sentence), *found)
    if found:
        return 0, found
    plan = plan_moves(seen, decided, rules, 0)
    return len(plan.actions), checked(seen, plan, rules, decided.memory)


def schema(noun: Annotated[str, typer.Argument(help=f"One of: {', '.join(NOUNS)}.")]) -> None:
    """Print the JSON Schema of a noun, for editors and other programs."""
    import json

    from policies.model.codec import schema as schema_of
    from policies.model.decision import Decision
    from policies.model.plan import Plan
    from policies.model.policy import Policy
    from policies.model.snapshot import Snapshot
    from policies.model.workload import Claim

    nouns = dict(zip(NOUNS, (Policy, Snapshot, Decision, Claim, Plan), strict=True))
    if noun not in nouns:
        raise typer.BadParameter(f"{noun!r} is none of {', '.join(NOUNS)}")
    typer.echo(json.dumps(schema_of(nouns[noun]), indent=2, sort_keys=True))


policy_app = typer.Typer(help="Policy documents: check one, see what it would do.", no_args_is_help=True)


@policy_app.command()
def lint(
    file: Annotated[Path, typer.Argument(help="Policy document (YAML).")],
    snapshot: Annotated[
        Path | None, typer.Option("--snapshot", help="Also prove its floors on these devices (JSON).")
    ] = None,
) -> None:
    """Check a policy document; an error names line, column and path.

    With `--snapshot` also whether each floor could come back within its deadline: status 1 if one could not.
    """
    rules = policy_in(file)
    say(f"{file}: policy {rules.revision} is sound: {len(rules.tenants)} tenants")
    if snapshot is not None:
        from policies.certificate import certify
        from policies.model.codec import to_plain

        seen = snapshot_in(snapshot)
        _show_floors([to_plain(proof) for proof in certify(seen, rules, seen.observed_at_ms)], Output.TABLE)


@policy_app.command()
def floors(output: OutputKind = Output.TABLE, context: ContextName = None, token_file: TokenFile = None) -> None:
    """Show whether each floor in force could come back within its deadline on the devices as they are.

    Exit status 1 if one could not.
    """
    from cluster.cli.contexts import connect

    _show_floors(connect(context, token_file).get("/v1/policy/floors"), output)


def _show_floors(proofs: list[dict[str, Any]], output: Output) -> None:
    show(proofs, FLOOR_COLUMNS, output)
    if not all(proof["is_recoverable"] for proof in proofs):
        raise typer.Exit(Exit.ERROR)


FLOOR_COLUMNS = [
    Column(title="TENANT", cell=lambda row: row["tenant"]),
    Column(title="FLAVOR", cell=lambda row: row["flavor"]),
    Column(title="FLOOR", cell=lambda row: str(row["floor_millis"]), right=True),
    Column(title="KEPT", cell=lambda row: "yes" if row["is_recoverable"] else "NO"),
    Column(title="WHY", cell=lambda row: row["sentence"].partition(": ")[2]),
]


@policy_app.command("show")
def show_policy(output: OutputKind = Output.YAML, context: ContextName = None, token_file: TokenFile = None) -> None:
    """Print the policy in force."""
    from cluster.cli.contexts import connect

    chosen = Output.YAML if output in {Output.TABLE, Output.WIDE, Output.NAME} else output
    show(connect(context, token_file).get("/v1/policy"), [], chosen)


@policy_app.command("plan")
def plan_policy(
    file: Annotated[Path, typer.Argument(help="Policy document (YAML).")],
    output: OutputKind = Output.TABLE,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Show what a policy would do to the platform as it is now. The same as `partage plan -f`."""
    plan(file, output, context, token_file)


@policy_app.command()
def activate(
    file: Annotated[Path, typer.Argument(help="Policy document (YAML).")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Show what the policy would do to the platform as it is, ask, and put it in force."""
    from cluster.cli.asking import sure
    from cluster.cli.contexts import connect
    from cluster.cli.texts import preview_text
    from cluster.cli.writing import apply
    from policies.model.codec import to_plain

    client = connect(context, token_file)
    typer.echo(preview_text(client.call("POST", "/v1/policy/preview", body=to_plain(policy_in(file))).body))
    if not yes:
        sure("Put it in force?")
    apply(file, dry_run=False, wait=False, timeout_s=1, context=context, token_file=token_file)


def plan(
    file: Annotated[Path, typer.Option("--file", "-f", help="Policy document (YAML).")],
    output: OutputKind = Output.TABLE,
    context: ContextName = None,
    token_file: TokenFile = None,
) -> None:
    """Show what a policy would do to the platform as it is. Exit status: 0 nothing, 2 changes are due, 1 an error."""
    from cluster.cli.contexts import connect
    from policies.model.codec import to_plain

    client = connect(context, token_file)
    show_preview(client.call("POST", "/v1/policy/preview", body=to_plain(policy_in(file))).body, output)


def show_preview(found: Any, output: Output) -> None:
    """Write what a change would do; ends with status 2 where it would do something."""
    from cluster.cli.texts import preview_text

    if output.is_data:
        show(found, [], output)
    else:
        typer.echo(preview_text(found))
    if found["changed"] or found["evicted"]:
        raise typer.Exit(Exit.USAGE)
