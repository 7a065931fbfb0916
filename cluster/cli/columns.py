"""The columns of every table, by kind."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

from cluster.cli.screen import Column, Row, millis, span

QUOTAS_SHOWN = 3


def claim_columns(now_ms: int) -> list[Column]:
    """Return the columns of claims: what was asked for, what is had, and why not more."""
    return [
        Column(title="NAME", cell=lambda row: row["claim"]["id"]),
        Column(title="KIND", cell=lambda row: row["claim"]["kind"], spare=9),
        Column(title="MODEL", cell=lambda row: row["claim"]["model"], spare=8),
        Column(title="CLASS", cell=lambda row: row["claim"]["priority_class"], spare=7),
        Column(title="WANTED", cell=lambda row: _reason(row, "wanted_replicas"), right=True),
        Column(title="GRANTED", cell=lambda row: _reason(row, "granted_replicas"), right=True, spare=6),
        Column(title="RUNNING", cell=lambda row: sum(group["running"] for group in row["groups"]), right=True),
        Column(title="RUNG", cell=_rung, right=True, spare=5),
        Column(title="STATE", cell=lambda row: _reason(row, "state")),
        Column(title="REASON", cell=lambda row: _reason(row, "code")),
        Column(title="POS", cell=lambda row: _reason(row, "position"), right=True, spare=1),
        Column(title="ETA", cell=lambda row: until(_reason(row, "eta_ms"), now_ms), right=True),
        Column(title="AGE", cell=lambda row: since(row["claim"]["submitted_at_ms"], now_ms), right=True, spare=4),
        Column(title="GENERATION", cell=lambda row: row["claim"]["generation"], right=True, wide=True),
        Column(
            title="MIN-MAX",
            cell=lambda row: f"{row['claim']['min_replicas']}-{row['claim']['max_replicas']}",
            wide=True,
        ),
        Column(title="GROUPS", cell=lambda row: ",".join(group["id"] for group in row["groups"]), wide=True),
    ]


def tenant_columns(_now_ms: int) -> list[Column]:
    """Return the columns of tenants: promises and limits."""
    return [
        Column(title="NAME", cell=lambda row: row["id"]),
        Column(title="DOMAIN", cell=lambda row: row["domain"]),
        Column(title="NOMINAL", cell=lambda row: _quotas(row, "nominal_millis")),
        Column(title="LENDS", cell=lambda row: _quotas(row, "lending_limit_millis"), spare=3),
        Column(title="BORROWS", cell=lambda row: _quotas(row, "borrowing_limit_millis"), spare=4),
        Column(
            title="FLOOR",
            cell=lambda row: ", ".join(f"{millis(amount)} {flavor}" for flavor, amount in row["floor_millis"]),
        ),
        Column(title="WEIGHT", cell=lambda row: row["fair_weight"], right=True, spare=2),
        Column(title="BACK WITHIN", cell=lambda row: span(row["reclaim_deadline_s"]), right=True),
    ]


def device_columns(_now_ms: int) -> list[Column]:
    """Return the columns of devices: who holds each, and whether it may be used."""
    return [
        Column(title="DEVICE", cell=lambda row: row["id"]),
        Column(title="NODE", cell=lambda row: row["node"]),
        Column(title="FLAVOR", cell=lambda row: row["flavor"], spare=3),
        Column(title="DOMAIN", cell=lambda row: row["domain"]),
        Column(title="HEALTH", cell=lambda row: row["health"]),
        Column(title="SCRUB", cell=lambda row: row["scrub"]),
        Column(title="MEMORY", cell=lambda row: f"{row['memory_mib']} MiB", right=True, spare=5),
        Column(title="KIND", cell=lambda row: "simulated" if row["simulated"] else "real", spare=4),
        Column(title="GPU", cell=lambda row: row["gpu"], wide=True),
        Column(title="ISLAND", cell=lambda row: row["island"], wide=True),
        Column(title="WARM", cell=lambda row: ",".join(row["warm_models"]), wide=True),
    ]


def worker_columns(now_ms: int) -> list[Column]:
    """Return the columns of workers."""
    return [
        Column(title="WORKER", cell=lambda row: row["id"]),
        Column(title="DOMAIN", cell=lambda row: row["domain"]),
        Column(title="NODE", cell=lambda row: row["node"], spare=2),
        Column(title="STATE", cell=lambda row: row["state"]),
        Column(title="DEVICES", cell=lambda row: ",".join(row["devices"])),
        Column(title="AGE", cell=lambda row: since(row["since_ms"], now_ms), right=True, spare=1),
        Column(title="RAY NODE", cell=lambda row: row["ray_node_id"], wide=True),
    ]


def group_columns(now_ms: int) -> list[Column]:
    """Return the columns of groups."""
    return [
        Column(title="GROUP", cell=lambda row: row["id"]),
        Column(title="CLAIM", cell=lambda row: row["claim"], spare=3),
        Column(title="WORKER", cell=lambda row: row["worker"], spare=5),
        Column(title="VARIANT", cell=lambda row: row["variant"], spare=6),
        Column(title="RUNNING", cell=lambda row: f"{row['running']}/{row['replicas']}", right=True),
        Column(title="STATE", cell=lambda row: row["state"]),
        Column(title="ROUTED", cell=lambda row: "yes" if row["routed"] else "no"),
        Column(title="INSIDE", cell=lambda row: row["in_flight"], right=True, spare=4),
        Column(title="USE", cell=lambda row: row["usage"], spare=8),
        Column(title="AGE", cell=lambda row: since(row["since_ms"], now_ms), right=True, spare=7),
        Column(title="MESSAGE", cell=lambda row: row["message"], wide=True),
    ]


def node_columns(_now_ms: int) -> list[Column]:
    """Return the columns of nodes."""
    return [
        Column(title="NODE", cell=lambda row: row["id"]),
        Column(title="CPU", cell=lambda row: millis(row["cpu_millis"]), right=True),
        Column(title="MEMORY", cell=lambda row: f"{row['memory_mib']} MiB", right=True),
        Column(title="IN USE", cell=lambda row: "yes" if row["schedulable"] else "drained"),
        Column(title="RACK", cell=lambda row: row["rack"], wide=True),
        Column(title="LABELS", cell=lambda row: ",".join(f"{key}={value}" for key, value in row["labels"]), spare=1),
    ]


def reservation_columns(now_ms: int) -> list[Column]:
    """Return the columns of reservations."""
    return [
        Column(title="RESERVATION", cell=lambda row: row["id"]),
        Column(title="FLAVOR", cell=lambda row: row["flavor"]),
        Column(title="KEPT", cell=lambda row: millis(row["gpu_millis"]), right=True),
        Column(title="FROM, UTC", cell=lambda row: minute(row["starts_at_ms"])),
        Column(title="TO, UTC", cell=lambda row: minute(row["ends_at_ms"])),
        Column(title="STATE", cell=lambda row: _phase(row, now_ms)),
    ]


def minute(at_ms: int) -> str:
    """Return a day and time in UTC, to the minute."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")


def _phase(row: Row, now_ms: int) -> str:
    if now_ms < row["starts_at_ms"]:
        return f"begins in {until(row['starts_at_ms'], now_ms)}"
    return f"ends in {until(row['ends_at_ms'], now_ms)}" if now_ms < row["ends_at_ms"] else "over"


def key_columns(now_ms: int) -> list[Column]:
    """Return the columns of API keys."""
    return [
        Column(title="PREFIX", cell=lambda row: row["prefix"]),
        Column(title="TENANT", cell=lambda row: row["tenant"]),
        Column(title="EXPIRES IN", cell=lambda row: until(row["expires_at_ms"], now_ms), right=True),
        Column(title="MODELS", cell=lambda row: ",".join(row["models"]) or "all", spare=1),
        Column(title="SCOPES", cell=lambda row: ",".join(row["scopes"]), spare=2),
    ]


def model_columns(_now_ms: int) -> list[Column]:
    """Return the columns of models of the catalogue, as far as the caller may ask for them."""
    return [
        Column(title="MODEL", cell=lambda row: row["id"]),
        Column(title="CONTEXT", cell=lambda row: row["context_tokens"] or None, right=True),
        Column(title="LICENCE", cell=lambda row: row["licence"], spare=2),
        Column(title="TAKES", cell=lambda row: ",".join(row["modalities"]), spare=1),
        Column(title="VARIANTS, BEST FIRST", cell=lambda row: ", ".join(one["id"] for one in row["variants"])),
    ]


def move_columns(_now_ms: int) -> list[Column]:
    """Return the columns of changes of domain, each stage with its own seconds."""
    return [
        Column(title="DEVICE", cell=lambda row: row["device"]),
        Column(title="FROM", cell=lambda row: row["from_domain"], spare=2),
        Column(title="TO", cell=lambda row: row["to_domain"]),
        Column(title="BEGAN", cell=lambda row: clock(row["stages"][0]["at_ms"]), spare=3),
        *[Column(title=stage.upper().replace("_", " "), cell=_stage(stage), right=True) for stage in MOVE_STAGES],
        Column(title="WHOLE", cell=_whole, right=True),
    ]


MOVE_STAGES = ("drained", "stopped", "scrubbed", "bound", "worker_ready", "answering")


def share_columns(_now_ms: int) -> list[Column]:
    """Return the columns of shares, in devices."""

    def part(name: str) -> Callable[[Row], object]:
        return lambda row: millis(row["entitlement"][f"{name}_millis"])

    return [
        Column(title="TENANT", cell=lambda row: row["entitlement"]["tenant"]),
        Column(title="FLAVOR", cell=lambda row: row["entitlement"]["flavor"]),
        Column(title="NOMINAL", cell=lambda row: millis(row["nominal_millis"]), right=True),
        Column(title="FLOOR", cell=lambda row: millis(row["floor_millis"]), right=True, spare=1),
        Column(title="WEIGHT", cell=lambda row: row["fair_weight"], right=True, spare=3),
        Column(title="DEMAND", cell=part("demand"), right=True, spare=2),
        Column(title="ENTITLED", cell=part("entitled"), right=True),
        Column(title="HELD", cell=part("held"), right=True),
        Column(title="BORROWED", cell=part("borrowed"), right=True),
        Column(title="LENT", cell=part("lent"), right=True),
        Column(title="GUARANTEED", cell=part("guaranteed"), right=True, wide=True),
        Column(title="LENDS", cell=lambda row: millis(row["lending_limit_millis"]), right=True, wide=True),
        Column(title="BORROWS", cell=lambda row: millis(row["borrowing_limit_millis"]), right=True, wide=True),
    ]


def decision_columns(_now_ms: int) -> list[Column]:
    """Return the columns of past decisions."""
    return [
        Column(title="NUMBER", cell=lambda row: row["number"], right=True),
        Column(title="AT", cell=lambda row: clock(row["at_ms"])),
        Column(title="ACTIONS", cell=lambda row: _counted([action["kind"] for action in row["plan"]["actions"]])),
        Column(title="OUTCOME", cell=_outcome),
        Column(title="POLICY", cell=lambda row: row["policy_digest"][:12], spare=1),
        Column(title="SNAPSHOT", cell=lambda row: row["snapshot_digest"][:12], spare=2),
        Column(title="REPLAY", cell=lambda row: "yes" if row["replayable"] else "no"),
    ]


def clock(at_ms: int) -> str:
    """Return a time of day in UTC, which the letter says, with milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%H:%M:%S.%f")[:-3] + "Z"


def since(at_ms: int, now_ms: int) -> str:
    """Return how long ago it was; a dash if never."""
    return span((now_ms - at_ms) / 1000) if at_ms else "-"


def until(at_ms: object, now_ms: int) -> str:
    """Return how long until then; a dash if unknown."""
    return span((at_ms - now_ms) / 1000) if isinstance(at_ms, int) else "-"


def _reason(row: Row, name: str) -> object:
    return row["reason"][name] if row["reason"] else None


def _rung(row: Row) -> object:
    rung = _reason(row, "rung")
    return f"{rung + 1}/{len(row['claim']['ladder'])}" if isinstance(rung, int) else None


def _quotas(row: Row, name: str) -> str:
    shown = [f"{millis(quota[name])} {quota['flavor']}" for quota in row["quotas"][:QUOTAS_SHOWN]]
    return ", ".join(shown) + (", ..." if len(row["quotas"]) > QUOTAS_SHOWN else "")


def _counted(words: list[str]) -> str:
    return ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))


def _outcome(row: Row) -> str:
    if not row["plan"]["actions"]:
        return "remembered"
    if row["outcome"] is None:
        return "not settled"
    return _counted([result["status"] for result in row["outcome"]["results"]])


def _stage(name: str) -> Callable[[Row], object]:
    def seconds(row: Row) -> object:
        stages = row["stages"]
        for before, after in itertools.pairwise(stages):
            if after["name"] == name:
                return f"{(after['at_ms'] - before['at_ms']) / 1000:.1f}s"
        return None

    return seconds


def _whole(row: Row) -> str:
    total = f"{(row['stages'][-1]['at_ms'] - row['stages'][0]['at_ms']) / 1000:.1f}s"
    return total if row["stages"][-1]["name"] == MOVE_STAGES[-1] else f"{total}, under way"
