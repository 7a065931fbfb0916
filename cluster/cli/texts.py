"""Screens that are sentences rather than tables."""

from __future__ import annotations

import shlex
from typing import Any

from cluster.cli.columns import clock, group_columns, since, until
from cluster.cli.screen import Column, millis, printable, span, table, terminal_width

EVENTS_SHOWN = 10
OTHERS = "not everything was tried that might change it: something smaller may do"
NONE_YET = "nothing that would change it was found, and not everything was tried, nor every two together"


def reason_text(reason: dict[str, Any], now_ms: int) -> str:
    """Return why a claim is where it is, in the order in which a person asks."""
    code = f" ({reason['code']})" if reason["code"] else ""
    lines = [f"{reason['claim']}: {reason['state']}{code}", f"  {reason['sentence']}"]
    if reason["wanted_replicas"]:
        lines.append(f"  replicas: {reason['granted_replicas']} of {reason['wanted_replicas']} granted")
    if reason["position"] is not None:
        lines.append(f"  position: {reason['position']} in its tenant's queue")
    if reason["eta_ms"] is not None:
        lines.append(f"  expected in {until(reason['eta_ms'], now_ms)}, if {reason['eta_assumption']}")
    if reason["blockers"]:
        lines.append(f"  held by: {', '.join(reason['blockers'])}")
    if reason["unblocking"]:
        change = reason["unblocking"]
        amount = f" {millis(change['amount_millis'])} devices" if change["amount_millis"] else ""
        what = change["sentence"] or f"{change['kind']} of {change['subject']}{amount}"
        lines.append(f"  what would change it: {what}")
    if reason.get("search"):
        lines.append(f"  {OTHERS if reason['unblocking'] else NONE_YET} ({reason['search']})")
    if reason["score_terms"]:
        lines.append("  order: " + ", ".join(f"{name} {value}" for name, value in reason["score_terms"]))
    return "\n".join(printable(line) for line in lines)


def claim_text(status: dict[str, Any], events: list[dict[str, Any]], now_ms: int) -> str:
    """Return all about one claim."""
    claim = status["claim"]
    replicas = (
        f"{claim['min_replicas']} to {claim['max_replicas']}, {claim['desired_replicas']} without measured demand"
    )
    lines = [
        f"Name:        {claim['id']}",
        f"Kind:        {claim['kind']}" + (f" of model {claim['model']}" if claim["model"] else ""),
        f"Class:       {claim['priority_class']}",
        f"Replicas:    {replicas}",
        f"Generation:  {claim['generation']}",
        f"Age:         {since(claim['submitted_at_ms'], now_ms)}",
        *_canary_lines(claim),
        *_job_lines(claim),
        "Ladder:",
    ]
    for rung, shape in enumerate(claim["ladder"], 1):
        amount = f"{shape['devices']} devices" if shape["devices"] > 1 else f"{millis(shape['gpu_millis'])} device"
        flavors = " or ".join(shape["flavors"]) or "any flavor"
        lines.append(f"  {rung}. {shape['variant'] or 'any variant'}: {amount}, {shape['memory_mib']} MiB, {flavors}")
    lines += ["Reason:", "  " + reason_text(status["reason"], now_ms).replace("\n", "\n  ")] if status["reason"] else []
    own = [column for column in group_columns(now_ms) if column.title != "CLAIM"]
    width = terminal_width()
    groups = table(status["groups"], own, width and width - 2).splitlines()
    lines += ["Groups:", *(f"  {line}" for line in groups)]
    lines += ["Events:", *(f"  {event_line(event)}" for event in events[-EVENTS_SHOWN:])] if events else []
    return "\n".join(lines)


def _job_lines(claim: dict[str, Any]) -> list[str]:
    """Return what a job runs, and how often it may fail; nothing for a claim that names no program."""
    job = claim.get("job")
    if not job:
        return []
    program = " ".join(shlex.quote(word) for word in job["command"]).splitlines()
    shown = printable(program[0]) + (" ..." if len(program) > 1 else "")
    lines = [f"Program:     {shown}", f"Attempts:    {job['attempts']}"]
    return lines + ([f"Checkpoint:  {printable(job['checkpoint'])}"] if job["checkpoint"] else [])


def _canary_lines(claim: dict[str, Any]) -> list[str]:
    """Return whose requests the claim shares; nothing for a claim that is no canary."""
    trial = claim.get("canary")
    if not trial:
        return []
    fate = "; promoted, ends by itself" if trial["promoted"] else ""
    if trial["trial"] == "shadow":
        return [f"Shadow:      gets copies of {trial['weight_percent']} % of the requests of {trial['of']}{fate}"]
    return [f"Canary:      {trial['weight_percent']} % of the requests of {trial['of']}{fate}"]


def status_text(found: dict[str, Any], shares: list[dict[str, Any]]) -> str:
    """Return the platform on one screen."""
    from cluster.cli.columns import share_columns

    lines = [
        f"mode {found['mode']}, policy {found['policy_revision']}, leader generation {found['fencing_generation']}",
        f"{found['devices']} devices, {found['workers']} workers, {found['groups']} groups",
        f"{found['claims']} claims, {found['waiting']} of them with less than they want",
        f"last turn {span(found['turn_age_ms'] / 1000)} ago, decided in {found['decide_ms']} ms",
    ]
    if found["gaps"]:
        lines.append(f"NOT SEEN: {found['gaps']} things; moves that need them are held (`partage doctor` names them)")
    if not found["adopted"]:
        lines.append("HOLDING: this journal does not account for what runs; look, then `partage adopt`")
    if found["trouble"]:
        lines.append(f"TROUBLE: {printable(found['trouble'])}")
    return (
        "\n".join(lines)
        + "\n\n"
        + table(shares, [c for c in share_columns(0) if not c.wide], terminal_width()).rstrip()
    )


def event_line(event: dict[str, Any]) -> str:
    """Return one event as one line."""
    return (
        f"{clock(event['at_ms'])}  {event['actor']:<16} {event['kind']:<18} {printable(event['subject'])}{_more(event)}"
    )


def _more(event: dict[str, Any]) -> str:
    body = event["body"]
    if event["kind"] == "plan.intended":
        kinds = [action["kind"] for action in body["actions"]]
        return "  " + ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    if event["kind"] == "plan.settled":
        faults = "; ".join(f"{fault['action']} {fault['status']}: {fault['detail']}" for fault in body["faults"])
        return f"  {printable(faults)}" if faults else "  all accepted"
    if event["kind"].startswith("device.") and "record" in body:
        record = body["record"]
        return f"  {record['scrub']}, domain {record['domain'] or 'none'}, worker {record['worker'] or 'none'}"
    if event["kind"].startswith("job.") and "exit_code" in body:
        took_s = max(0, body["ended_ms"] - body["began_ms"]) // 1000
        of = f", failure {body['failures']}" if "failures" in body else ""
        return f"  exit code {body['exit_code']} after {took_s} s{of}"
    return ""


def preview_text(preview: dict[str, Any]) -> str:
    """Return what a policy would do: shares before and after, who loses and who gains."""
    before = {(entry["tenant"], entry["flavor"]): entry for entry in preview["before"]}
    rows = [{**entry, "before": before.get((entry["tenant"], entry["flavor"]))} for entry in preview["after"]]
    columns = [
        Column(title="TENANT", cell=lambda row: row["tenant"]),
        Column(title="FLAVOR", cell=lambda row: row["flavor"]),
        Column(title="ENTITLED NOW", cell=lambda row: _amount(row["before"], "entitled_millis"), right=True),
        Column(title="THEN", cell=lambda row: _amount(row, "entitled_millis"), right=True),
        Column(title="HELD", cell=lambda row: _amount(row, "held_millis"), right=True),
    ]
    lines = [table(rows, columns, terminal_width()).rstrip()]
    lines += [f"evicted: {group}" for group in preview["evicted"]]
    lines += [
        f"{reason['claim']}: {reason['state']}" + (f" ({reason['code']})" if reason["code"] else "")
        for reason in preview["changed"]
    ]
    lines += [f"floor not kept: {floor['sentence']}" for floor in preview["floors"] if not floor["is_recoverable"]]
    return "\n".join(printable(line) if "\n" not in line else line for line in lines)


def _amount(entry: dict[str, Any] | None, name: str) -> str:
    return millis(entry[name]) if entry else "-"
