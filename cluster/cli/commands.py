"""Every command: the heading it is listed under, in what words, and where its function is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Listed:
    """A command as the first screen lists it."""

    where: str
    """``module:name`` of its function or group; empty if another package brings it."""
    text: str
    """One line; with the name it fits in 80 columns."""


SECTIONS: dict[str, dict[str, Listed]] = {
    "Look": {
        "status": Listed("cluster.cli.reading:status", "The platform on one screen."),
        "get": Listed("cluster.cli.reading:get", "List claims, tenants, devices, nodes, keys, moves and more."),
        "describe": Listed("cluster.cli.reading:describe", "All about one claim."),
        "why": Listed("cluster.cli.reading:why", "Why a claim is where it is, and what would change it."),
        "logs": Listed("cluster.cli.reading:logs", "What a job wrote, also after it has ended."),
        "shares": Listed("cluster.cli.reading:shares", "Who is entitled to what, holds, borrows and lends what."),
        "events": Listed("cluster.cli.reading:events", "What happened, who did it, when."),
        "top": Listed("cluster.cli.telemetry:top", "Watch this machine's GPUs, live."),
        "telemetry": Listed("cluster.cli.telemetry:telemetry", "Every reading of this machine's GPUs, or why none."),
        "usage": Listed("", "What tenants used: tokens, GPU-seconds, by day."),
        "console": Listed("cluster.cli.console:console", "The console in the browser."),
    },
    "Ask for capacity": {
        "offer": Listed("cluster.cli.deciding:offer", "What could be had now, and when the rest."),
        "apply": Listed("cluster.cli.writing:apply", "Ask for what a file says: claims, or a policy."),
        "diff": Listed("cluster.cli.writing:diff", "What apply would change."),
        "delete": Listed("cluster.cli.writing:delete", "Give a claim up, or revoke a key."),
        "key": Listed("cluster.cli.configuring:key_app", "API keys of tenants."),
        "model": Listed("", "Models, their variants, weights and measurements."),
    },
    "Decide on the rules": {
        "policy": Listed("cluster.cli.pure:policy_app", "Check a policy, see what it would do, put it in force."),
        "plan": Listed("cluster.cli.pure:plan", "What a policy would move on the platform as it is."),
        "reservation": Listed("cluster.cli.reserving:app", "Capacity kept for a tenant at a later time."),
        "mode": Listed("cluster.cli.deciding:mode_app", "Declare, approve and end heightened and crisis."),
    },
    "Operate": {
        "up": Listed("cluster.cli.platform:up", "Start the platform on this machine."),
        "down": Listed("cluster.cli.platform:down", "Stop what `up` started, and only that."),
        "demo": Listed("cluster.cli.platform:demo", "Capacity moves under live traffic; every promise is checked."),
        "drain": Listed("cluster.cli.writing:drain", "Take a node or device out of use."),
        "uncordon": Listed("cluster.cli.writing:uncordon", "Put it back into use."),
        "mig": Listed("cluster.cli.mig:app", "How idle GPUs should be divided, as demand asks for it."),
        "release": Listed("cluster.cli.telemetry:release", "Trust a GPU again after you have looked at it."),
        "adopt": Listed("cluster.cli.adopting:adopt", "After a lost journal: account for what runs, then act again."),
        "doctor": Listed("cluster.cli.deciding:doctor", "Look for what is wrong, and say what to do about it."),
        "dashboards": Listed("cluster.cli.dashboards:app", "Grafana dashboards: push, compare, export."),
        "operator": Listed("cluster.cli.configuring:operator_app", "People who operate the platform."),
    },
    "Prove and try out": {
        "audit": Listed("cluster.cli.records:audit_app", "The sealed log: verify it, export it."),
        "replay": Listed("cluster.cli.records:replay", "A past decision, taken again."),
        "simulate": Listed("cluster.cli.simulating:simulate", "Live through a trace of claims under a policy."),
        "size": Listed("", "How many devices a load needs."),
        "snapshot": Listed("cluster.cli.records:snapshot_app", "The world as it is seen, as a file."),
        "decide": Listed("cluster.cli.pure:decide", "The decision that these files lead to."),
        "check": Listed("cluster.cli.pure:check", "A second program checks the plan."),
        "schema": Listed("cluster.cli.pure:schema", "JSON Schema of a noun."),
        "drill": Listed("cluster.cli.drill:app", "Train for an incident on a simulated platform."),
        "bench": Listed("cluster.cli.bench:app", "Measurements that anybody can repeat."),
    },
    "This command line": {
        "context": Listed("cluster.cli.configuring:context_app", "Named control planes to talk to."),
        "completion": Listed("cluster.cli.shells:completion", "Completion for bash, zsh or fish, with live names."),
    },
}

COMMANDS: dict[str, Listed] = {name: listed for section in SECTIONS.values() for name, listed in section.items()}
"""Every command by name. Packages beside ours bring theirs through the entry point group ``partage.commands``."""


WITHIN: dict[str, dict[str, str]] = {"model": {"canary": "cluster.cli.canary:app"}}
"""Our commands inside a group that another package brings: ``module:name`` by group and command."""


def load(name: str) -> Any:
    """Return the function or group of the command; None if it is not ours."""
    listed = COMMANDS.get(name)
    return found_at(listed.where) if listed is not None and listed.where else None


def found_at(where: str) -> Any:
    """Return what ``module:name`` names; the module is imported now."""
    from importlib import import_module

    module, _, attribute = where.partition(":")
    return getattr(import_module(module), attribute)
