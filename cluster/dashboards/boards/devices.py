"""Load, memory, power, temperature, health and foreign processes of every device, with the owner joined in."""

from __future__ import annotations

from cluster.dashboards.boards.scope import BY_NODE, DOMAIN, NEVER, NODE
from cluster.dashboards.spec import Board, Limit, Panel, Query, Row

OWNER = (
    "* on (UUID) group_left (domain, tenant, claim) "
    'max by (UUID, domain, tenant, claim) (partage_device_info{domain=~"$domain"})'
)
"""Joins a reading of a device to who holds the device."""


def _owned(metric: str) -> str:
    return f"max by (UUID, gpu, Hostname) ({metric}{{{BY_NODE}}}) {OWNER}"


STATE = Row(
    title="State",
    panels=(
        Panel(
            kind="bars",
            title="Devices by health",
            asks="How many devices may be used? Suspect and quarantined devices carry no new work.",
            queries=(Query(expr="sum by (health) (partage_devices)", legend="{{health}}"),),
            width=8,
            height=7,
        ),
        Panel(
            kind="bars",
            title="Devices by scrub state",
            asks="Where do devices stand between two domains? `failed` waits for a person.",
            queries=(Query(expr="sum by (scrub) (partage_devices)", legend="{{scrub}}"),),
            width=8,
            height=7,
        ),
        Panel(
            kind="number",
            title="Foreign processes",
            asks="How many processes that nobody was given a device for run on one? The table names the devices.",
            queries=(Query(expr=f"sum(partage_device_foreign_processes{{{BY_NODE}}})"),),
            width=4,
            height=7,
            limits=NEVER,
        ),
        Panel(
            kind="number",
            title="Oldest sample",
            asks="How old is the oldest reading? Beyond 15 s, readings hold moves and cause none.",
            queries=(Query(expr=f"max(partage_device_sample_age_seconds{{{BY_NODE}}})"),),
            unit="s",
            width=4,
            height=7,
            limits=(Limit(at=15, colour="orange"), Limit(at=60, colour="red")),
        ),
        Panel(
            kind="table",
            title="Who holds which device",
            asks="Device, host, domain, tenant, claim. `simulated` says whether it exists.",
            queries=(Query(expr=f'partage_device_info{{{BY_NODE},domain=~"$domain"}}'),),
            width=24,
            hides=("Value",),
        ),
    ),
)

LOAD = Row(
    title="Load",
    panels=(
        Panel(
            kind="lines",
            title="GPU utilisation",
            asks="Which devices compute? Busy means a kernel ran, not that the device was full.",
            queries=(Query(expr=_owned("DCGM_FI_DEV_GPU_UTIL"), legend="{{Hostname}} {{gpu}} {{tenant}}"),),
            unit="percent",
        ),
        Panel(
            kind="bars",
            title="Held devices by utilisation band",
            asks="Are held devices used? The distribution says more than the mean.",
            queries=tuple(
                Query(expr=f"count(({_owned('DCGM_FI_DEV_GPU_UTIL')}) {test}) or vector(0)", legend=band)
                for band, test in (
                    ("0-10 %", "< 10"),
                    ("10-75 %", ">= 10 < 75"),
                    ("75-100 %", ">= 75"),
                )
            ),
        ),
        Panel(
            kind="lines",
            title="Memory used",
            asks="How full is each device's memory, without the driver's reserve?",
            queries=(
                Query(
                    expr=(
                        f"DCGM_FI_DEV_FB_USED{{{BY_NODE}}} / (DCGM_FI_DEV_FB_USED{{{BY_NODE}}}"
                        f" + DCGM_FI_DEV_FB_FREE{{{BY_NODE}}})"
                    ),
                    legend="{{Hostname}} {{gpu}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            kind="lines",
            title="Power",
            asks="How much does each device draw?",
            queries=(Query(expr=f"DCGM_FI_DEV_POWER_USAGE{{{BY_NODE}}}", legend="{{Hostname}} {{gpu}}"),),
            unit="watt",
        ),
        Panel(
            kind="lines",
            title="Temperature",
            asks="Does a device get too hot? Above 85 degrees it slows itself down.",
            queries=(Query(expr=f"DCGM_FI_DEV_GPU_TEMP{{{BY_NODE}}}", legend="{{Hostname}} {{gpu}}"),),
            unit="celsius",
            limits=(Limit(at=80, colour="orange"), Limit(at=85, colour="red")),
        ),
        Panel(
            kind="lines",
            title="Last XID error",
            asks="Which error did the driver report last? 0 is none; the GpuXidCritical page lists what each asks for.",
            queries=(Query(expr=f"DCGM_FI_DEV_XID_ERRORS{{{BY_NODE}}}", legend="{{Hostname}} {{gpu}}"),),
        ),
    ),
)

BOARD = Board(
    uid="partage-devices",
    title="partage / Devices",
    purpose="Load, memory, power, health and foreign processes, with the owner of each device.",
    choices=(DOMAIN, NODE),
    rows=(STATE, LOAD),
)
