"""Do owners get back what they lent in the time promised, and where does that time go?"""

from __future__ import annotations

from cluster.dashboards.boards.scope import (
    BY_DOMAIN,
    BY_SHARE,
    BY_TENANT,
    DOMAIN,
    FLAVOR,
    NEVER,
    OR_NONE,
    TENANT,
    quantile,
)
from cluster.dashboards.spec import Board, Limit, Panel, Query, Row

STAGE = "partage_reclaim_stage_seconds"

PROMISE = Row(
    title="The promise",
    panels=(
        Panel(
            kind="number",
            title="Recovered in time",
            asks="What share of reclaims of the shown period ended before their deadline? The target is 99 %.",
            queries=(
                Query(
                    expr=(
                        f'sum(increase(partage_reclaims_total{{outcome="in_time",{BY_TENANT}}}[$__range]))'
                        f" / (sum(increase(partage_reclaims_total{{{BY_TENANT}}}[$__range])) > 0)"
                    )
                ),
            ),
            unit="percentunit",
            width=6,
            height=6,
        ),
        Panel(
            kind="number",
            title="Late",
            asks="How many reclaims missed their deadline in the shown period? Each is explained in the decision log.",
            queries=(
                Query(expr=f'sum(increase(partage_reclaims_total{{outcome="late",{BY_TENANT}}}[$__range])){OR_NONE}'),
            ),
            width=6,
            height=6,
            limits=NEVER,
        ),
        Panel(
            kind="number",
            title="Requests cut off",
            asks="How many requests were still inside a group when its drain deadline passed?",
            queries=(Query(expr=f"sum(increase(partage_in_flight_lost_total{{{BY_DOMAIN}}}[$__range])){OR_NONE}"),),
            width=6,
            height=6,
            limits=NEVER,
        ),
        Panel(
            kind="number",
            title="Below the floor now",
            asks="GPUs of promised floors that are wanted and not held.",
            queries=(Query(expr=f"sum(partage_floor_deficit_gpu_millis{{{BY_SHARE}}}) / 1000"),),
            width=6,
            height=6,
            limits=(Limit(at=0.001, colour="red"),),
        ),
    ),
)

TIME = Row(
    title="Time",
    panels=(
        Panel(
            kind="lines",
            title="Time to recover, against the deadline",
            asks="How long from the owner's demand to the first answer? The flat lines are the deadlines.",
            queries=(
                Query(expr=quantile(0.5, "partage_reclaim_seconds", BY_TENANT, "domain"), legend="{{domain}} median"),
                Query(expr=quantile(0.95, "partage_reclaim_seconds", BY_TENANT, "domain"), legend="{{domain}} 95 %"),
                Query(
                    expr=f"min by (domain) (partage_reclaim_deadline_seconds{{{BY_TENANT}}})",
                    legend="{{domain}} deadline",
                ),
            ),
            unit="s",
        ),
        Panel(
            kind="stack",
            title="Where the time goes",
            asks="Mean seconds per stage. Drain waits for requests, scrub for the driver, start for weights.",
            queries=(
                Query(
                    expr=(
                        f"sum by (stage) (rate({STAGE}_sum{{{BY_DOMAIN}}}[$__rate_interval]))"
                        f" / sum by (stage) (rate({STAGE}_count{{{BY_DOMAIN}}}[$__rate_interval]))"
                    ),
                    legend="{{stage}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            kind="heat",
            title="Every reclaim",
            asks="Is there a second mode of slow reclaims that the quantiles hide?",
            queries=(
                Query(
                    expr=f"sum by (le) (increase(partage_reclaim_seconds_bucket{{{BY_TENANT}}}[$__rate_interval]))",
                    legend="{{le}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            kind="stack",
            title="Evictions by reason",
            asks="Why do groups lose their place? REBALANCE or CONSOLIDATE without end means the policy swings.",
            queries=(
                Query(
                    expr=f"sum by (reason) (increase(partage_evictions_total{{{BY_DOMAIN}}}[$__rate_interval]))",
                    legend="{{reason}}",
                ),
            ),
        ),
        Panel(
            kind="lines",
            title="Floor deficit by tenant",
            asks="Whose promised floor is missing, and for how long? Compare the length with the deadline.",
            queries=(
                Query(
                    expr=f"sum by (tenant) (partage_floor_deficit_gpu_millis{{{BY_SHARE}}}) / 1000",
                    legend="{{tenant}}",
                ),
            ),
            width=24,
        ),
    ),
)

BOARD = Board(
    uid="partage-reclaim",
    title="partage / Reclaim",
    purpose="Time from an owner's demand to the first answer, by stage, against the promised deadline.",
    choices=(DOMAIN, TENANT, FLAVOR),
    rows=(PROMISE, TIME),
)
