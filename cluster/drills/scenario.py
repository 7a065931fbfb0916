"""The drills: what goes wrong, what counts as noticing and as mending, and what there is to learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from cluster.drills.desk import Desk
from cluster.drills.recorder import RESTART_PATH, Noted
from cluster.drills.stage import DEVICES_PER_NODE, NODES

FLOOD = 20
"""Claims of the runaway tenant."""
FLOOD_LEFT = 3
SURGE = 3
"""Replicas that traffic asks of Defence's claim in the surge: one more than its own quota serves."""
TRIAGE, NIGHT = "defence/cyber:triage", "civil/justice:night-index"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One thing that goes wrong."""

    name: str
    title: str
    told: str
    """What the trainee hears, as a colleague would say it on the telephone: not the cause."""
    runbook: str
    begin: Callable[[Desk], None]
    looks: tuple[str, ...]
    """Paths of the API that show the trouble: the first request for one of them is noticing it."""
    is_mended: Callable[[Desk], bool]
    harms: Callable[[Noted], str]
    """What an action of the trainee harmed, empty if nothing."""
    detect_s: int
    """Time that a practised person needs to look in the right place."""
    mend_s: int
    lesson: str


def no_harm(_noted: Noted) -> str:
    """Find no fault."""
    return ""


def gave_up_claims(noted: Noted) -> str:
    """Find that somebody's claim was deleted."""
    if noted.method == "DELETE" and noted.path.startswith("/v1/claims/"):
        return f"{noted.path.removeprefix('/v1/claims/')} was given up: its owner lost service for nothing"
    return ""


def gave_up_others(noted: Noted) -> str:
    """Find that a claim was deleted that was not part of the flood."""
    return "" if ":loop-" in unquote(noted.path) else gave_up_claims(noted)


def uncordoned(noted: Noted) -> str:
    """Find that something ill was put back into use."""
    if noted.method == "DELETE" and noted.path.startswith("/v1/cordons/"):
        return "something ill was put back into use"
    return ""


def _device_of(desk: Desk, claim: str) -> str:
    return next(str(group["devices"][0]) for group in desk.items("/v1/groups") if group["claim"] == claim)


def _lose_a_device(desk: Desk) -> None:
    desk.direct(lose=_device_of(desk, "defence/cyber:triage"))


def _ill_device_is_out(desk: Desk) -> bool:
    ill = {device["id"] for device in desk.items("/v1/devices") if device["health"] != "healthy"}
    out = {cordon["subject"] for cordon in desk.ask("GET", "/v1/cordons")}
    return bool(ill) and ill <= out


def _surge(desk: Desk) -> None:
    """Let a batch job of the night use what civil has left, then let Defence need more than its own."""
    _change(desk, "civil/health:summaries", suspended=True)
    assistant = desk.ask("GET", "/v1/claims/civil/justice:assistant")["claim"]
    shape = {**assistant["ladder"][0], "variant": None}
    job = {"id": NIGHT, "kind": "job", "model": None, "priority_class": "batch", "max_replicas": 1, "ladder": [shape]}
    desk.ask("PUT", f"/v1/claims/{NIGHT}", {**assistant, **job}, {"If-None-Match": "*"})
    desk.until("the job of the night does not run", lambda: _runs(desk, NIGHT) == 1)
    _change(desk, TRIAGE, max_replicas=SURGE)
    desk.direct(traffic=TRIAGE, replicas=SURGE)


def _change(desk: Desk, claim: str, **fields: object) -> None:
    stored = desk.ask("GET", f"/v1/claims/{claim}")["claim"]
    desk.ask("PUT", f"/v1/claims/{claim}", {**stored, **fields}, {"If-Match": "*"})


def _runs(desk: Desk, claim: str) -> int:
    return sum(int(group["running"]) for group in desk.items("/v1/groups") if group["claim"] == claim)


def _crisis_is_met(desk: Desk) -> bool:
    return bool(desk.ask("GET", "/v1/status")["mode"] == "crisis") and _runs(desk, TRIAGE) == SURGE


def _flood(desk: Desk) -> None:
    """Let one tenant ask for the same thing many times, while another has use for the same idle devices."""
    pattern = desk.ask("GET", "/v1/claims/civil/health:summaries")["claim"]
    for number in range(FLOOD):
        name = f"civil/health:loop-{number:02}"
        body = {**pattern, "id": name, "desired_replicas": 1, "max_replicas": 4}
        desk.ask("PUT", f"/v1/claims/{name}", body, {"If-None-Match": "*"})
    desk.direct(traffic="civil/justice:assistant", replicas=2)


def _flood_is_dammed(desk: Desk) -> bool:
    flood = [each["claim"] for each in desk.items("/v1/claims") if ":loop-" in each["claim"]["id"]]
    running = [claim for claim in flood if not claim["suspended"]]
    tenants = {tenant["id"]: tenant for tenant in desk.ask("GET", "/v1/policy")["tenants"]}
    quotas = tenants.get("civil/health", {"quotas": []})["quotas"]
    dammed = bool(quotas) and all(quota["borrowing_limit_millis"] == 0 for quota in quotas)
    return dammed or len(running) <= FLOOD_LEFT


def _starve_by_policy(desk: Desk) -> None:
    policy = desk.ask("GET", "/v1/policy")
    for tenant in policy["tenants"]:
        if tenant["id"] == "civil/justice":
            tenant["fair_weight"] = 0
            for quota in tenant["quotas"]:
                quota["nominal_millis"] = 0
                quota["borrowing_limit_millis"] = 0
    desk.ask("PUT", "/v1/policy", {**policy, "revision": "friday-evening"}, {"If-Match": "*"})


def _justice_has_its_quota(desk: Desk) -> bool:
    tenants = {tenant["id"]: tenant for tenant in desk.ask("GET", "/v1/policy")["tenants"]}
    quotas = tenants.get("civil/justice", {"quotas": []})["quotas"]
    return any(quota["nominal_millis"] > 0 for quota in quotas)


def _blind_a_node(desk: Desk) -> None:
    desk.direct(hide=[f"GPU-{NODES[1]}-{number}" for number in range(DEVICES_PER_NODE)])


def _blind_node_is_out(desk: Desk) -> bool:
    out = {str(cordon["subject"]) for cordon in desk.ask("GET", "/v1/cordons")}
    return NODES[1] in out


def _lose_the_control_plane(desk: Desk) -> None:
    desk.direct(halt=True)
    desk.recorder.is_down = True


def _is_back(desk: Desk) -> bool:
    if desk.recorder.is_down:
        return False
    desk.direct(halt=False)
    return any(noted.path == RESTART_PATH for noted in desk.recorder.notes)


LOOKS = ("/v1/status", "/v1/devices", "/v1/snapshot", "/v1/reasons", "/v1/claims", "/v1/shares", "/v1/events")

DRILLS: dict[str, Drill] = {
    drill.name: drill
    for drill in (
        Drill(
            name="gpu-lost",
            title="A GPU is lost in the night",
            told="03:12. The alert GpuLost rings. Defence's triage paused for some seconds and answers again.",
            runbook="GpuLost.md",
            begin=_lose_a_device,
            looks=("/v1/devices", "/v1/snapshot", "/v1/groups", *LOOKS),
            is_mended=_ill_device_is_out,
            harms=gave_up_claims,
            detect_s=60,
            mend_s=300,
            lesson=(
                "The scheduler placed the claim elsewhere by itself. What it cannot know is whether the device comes"
                " back half-well: taking it out of use is what needs a person. Look at `get devices`, then `drain`."
            ),
        ),
        Drill(
            name="crisis-surge",
            title="A crisis brings a surge",
            told="A flood in the north. The crisis cell asks for everything that Defence can get, for the next hours.",
            runbook="procedures/declare-and-end-a-crisis.md",
            begin=_surge,
            looks=("/v1/shares", "/v1/policy", *LOOKS),
            is_mended=_crisis_is_met,
            harms=gave_up_claims,
            detect_s=120,
            mend_s=600,
            lesson=(
                "A crisis is a declared change of policy with an end and two names, not a hand on the scales: nobody's"
                " claim has to be deleted for it. `mode plan crisis` shows first whom it takes from: here the batch job"
                " of the night, and only above civil's floor. One person declares it, another approves; `operator add`"
                " makes a token for the second person."
            ),
        ),
        Drill(
            name="runaway-tenant",
            title="A tenant runs away",
            told="Justice complains that its assistant got slower since an hour. Nobody changed anything.",
            runbook="ClaimStarving.md",
            begin=_flood,
            looks=("/v1/claims", "/v1/shares", *LOOKS),
            is_mended=_flood_is_dammed,
            harms=gave_up_others,
            detect_s=120,
            mend_s=600,
            lesson=(
                "A script of civil/health asked for the same thing twenty times. Fair shares kept the damage inside its"
                " weight; a borrowing limit for that tenant ends it without touching what it is entitled to. What it"
                " had borrowed goes to whoever has use for it."
            ),
        ),
        Drill(
            name="bad-policy",
            title="A policy that takes too much",
            told="Friday, 18:40. Justice calls: its assistant answers nothing any more.",
            runbook="README.md",
            begin=_starve_by_policy,
            looks=("/v1/policy", "/v1/events", "/v1/shares", *LOOKS),
            is_mended=_justice_has_its_quota,
            harms=gave_up_claims,
            detect_s=120,
            mend_s=300,
            lesson=(
                "A revision named friday-evening took the tenant's quota away. `events` shows who put it in force;"
                " applying the earlier document mends it. `policy plan` would have shown it before."
            ),
        ),
        Drill(
            name="stale-telemetry",
            title="A node goes blind",
            told="The alert MovesHeldByGaps rings. Everything is answered, nothing moves.",
            runbook="MovesHeldByGaps.md",
            begin=_blind_a_node,
            looks=("/v1/status", "/v1/devices", *LOOKS),
            is_mended=_blind_node_is_out,
            harms=uncordoned,
            detect_s=60,
            mend_s=300,
            lesson=(
                "What is not seen may hold a move and never causes one. If it does not come back, take the node out of"
                " use: what is out of use holds nothing up."
            ),
        ),
        Drill(
            name="lost-control-plane",
            title="The control plane is gone",
            told="The alert SchedulerNotLeading rings. Callers notice nothing.",
            runbook="SchedulerNotLeading.md",
            begin=_lose_the_control_plane,
            looks=("/",),
            is_mended=_is_back,
            harms=no_harm,
            detect_s=60,
            mend_s=180,
            lesson=(
                "Without a control plane, what runs goes on running: there is time. Starting it again is safe at any"
                " moment; it adopts what runs. In a drill, `partage drill restart` stands for starting the process."
            ),
        ),
    )
}
