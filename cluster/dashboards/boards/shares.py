"""Who is promised, holds, borrows, lends and waits: the first screen of every day."""

from __future__ import annotations

from cluster.dashboards.boards.scope import BY_SHARE, BY_TENANT, DOMAIN, FLAVOR, TENANT
from cluster.dashboards.spec import Board, Limit, Panel, Query, Row


def _share(part: str) -> str:
    return f'partage_share_gpu_millis{{part="{part}",{BY_SHARE}}} / 1000'


def _total(part: str) -> str:
    return f"sum({_share(part)})"


NOW = Row(
    title="Now",
    panels=(
        Panel(
            kind="number",
            title="GPUs held",
            asks="How many GPUs do tenants hold together, in whole devices?",
            queries=(Query(expr=_total("held"), legend="held"),),
            width=4,
            height=5,
        ),
        Panel(
            kind="number",
            title="Borrowed",
            asks="How much is held above the holders' own nominal quota? It goes back when its owner asks.",
            queries=(Query(expr=_total("borrowed"), legend="borrowed"),),
            width=4,
            height=5,
        ),
        Panel(
            kind="number",
            title="Wanted and not held",
            asks="How much demand is not served? The table below says why for each tenant.",
            queries=(Query(expr=f"sum(clamp_min(({_share('demand')}) - ignoring(part) ({_share('held')}), 0))"),),
            width=4,
            height=5,
            limits=(Limit(at=0.001, colour="orange"),),
        ),
        Panel(
            kind="number",
            title="Below the promised floor",
            asks="How much of a promised floor is missing while it is wanted? Above zero: open the Reclaim dashboard.",
            queries=(Query(expr=f"sum(partage_floor_deficit_gpu_millis{{{BY_SHARE}}}) / 1000"),),
            width=4,
            height=5,
            limits=(Limit(at=0.001, colour="red"),),
        ),
        Panel(
            kind="number",
            title="Oldest wait",
            asks="How long has the claim waited that waits longest? `partage why CLAIM` gives its reason.",
            queries=(Query(expr=f"max(partage_claim_oldest_wait_seconds{{{BY_TENANT}}})"),),
            unit="s",
            width=4,
            height=5,
            limits=(Limit(at=300, colour="orange"), Limit(at=1800, colour="red")),
        ),
        Panel(
            kind="number",
            title="Mode",
            asks="Which mode is in force? Modes other than normal were declared by two people and end by themselves.",
            queries=(Query(expr="max by (mode) (partage_mode) == 1", legend="{{mode}}"),),
            width=4,
            height=5,
            words=(("1", "in force"),),
        ),
    ),
)

STACK = Row(
    title="Entitlement",
    panels=(
        Panel(
            kind="stack",
            title="Held by each tenant",
            asks="Who holds the GPUs? The stack is what is held; a step is a move that an annotation explains.",
            queries=(Query(expr=f"sum by (tenant) ({_share('held')})", legend="{{tenant}}"),),
            height=10,
        ),
        Panel(
            kind="lines",
            title="Guaranteed, entitled, held and wanted",
            asks="Is what is held what is due? Held below guaranteed for longer than the deadline breaks a promise.",
            queries=tuple(
                Query(expr=_total(part), legend=part) for part in ("guaranteed", "entitled", "held", "demand")
            ),
            height=10,
        ),
        Panel(
            kind="stack",
            title="Borrowed by each tenant",
            asks="Who runs on what others own?",
            queries=(Query(expr=f"sum by (tenant) ({_share('borrowed')})", legend="{{tenant}}"),),
        ),
        Panel(
            kind="stack",
            title="Lent by each tenant",
            asks="Whose idle quota serves others?",
            queries=(Query(expr=f"sum by (tenant) ({_share('lent')})", legend="{{tenant}}"),),
        ),
        Panel(
            kind="table",
            title="Every share",
            asks="The figures behind the stack, per tenant, flavor and part, in GPUs.",
            queries=(
                Query(expr=f"sum by (domain, tenant, flavor, part) (partage_share_gpu_millis{{{BY_SHARE}}}) / 1000"),
            ),
            width=24,
            height=10,
        ),
    ),
)

WAITING = Row(
    title="Waiting",
    panels=(
        Panel(
            kind="stack",
            title="Claims by state",
            asks="How many claims are served, degraded, waiting or held?",
            queries=(Query(expr=f"sum by (state) (partage_claims{{{BY_TENANT}}})", legend="{{state}}"),),
        ),
        Panel(
            kind="bars",
            title="Not fully served, by reason",
            asks="Why do claims have less than they want? The reasons are a closed list; each has a runbook line.",
            queries=(
                Query(
                    expr=f'sum by (reason) (partage_claims{{reason!="",{BY_TENANT}}}) > 0',
                    legend="{{reason}}",
                ),
            ),
        ),
    ),
)

BOARD = Board(
    uid="partage-shares",
    title="partage / Shares",
    purpose="Who is promised, holds, borrows, lends and waits.",
    choices=(DOMAIN, TENANT, FLAVOR),
    rows=(NOW, STACK, WAITING),
)
