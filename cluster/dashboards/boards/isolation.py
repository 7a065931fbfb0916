"""Proof that two domains never met on a device, and that surplus was shared as the weights say."""

from __future__ import annotations

from cluster.dashboards.boards.scope import BY_SHARE, BY_TENANT, DOMAIN, FLAVOR, NEVER, OR_NONE, TENANT
from cluster.dashboards.spec import Board, Panel, Query, Row

PRICE = Panel(
    kind="stack",
    title="Price of isolation",
    asks="How much idle capacity could a domain's waiting claims use if the other domain's work was not beside it?",
    queries=(
        Query(
            expr='sum by (domain, flavor) (partage_isolation_price_gpu_millis{domain=~"$domain",flavor=~"$flavor"})'
            " / 1000",
            legend="{{domain}} {{flavor}}",
        ),
    ),
)

ISOLATION = Row(
    title="Isolation",
    panels=(
        Panel(
            kind="number",
            title="Devices in two domains",
            asks="Must be 0. Above 0: follow the DomainCoResidency page at once.",
            queries=(Query(expr="max(partage_coresident_devices)"),),
            width=6,
            height=6,
            limits=NEVER,
        ),
        Panel(
            kind="number",
            title="Scrubs that failed",
            asks="How many devices could not be proved clean in the shown period? They stay out until a person acts.",
            queries=(Query(expr='sum(increase(partage_scrubs_total{result="failed"}[$__range]))' + OR_NONE),),
            width=6,
            height=6,
            limits=NEVER,
        ),
        Panel(
            kind="number",
            title="Scrubs proved",
            asks="How many changes of domain carry a proof in the shown period?",
            queries=(Query(expr='sum(increase(partage_scrubs_total{result="passed"}[$__range]))' + OR_NONE),),
            width=6,
            height=6,
        ),
        Panel(
            kind="number",
            title="Plans refused by the invariants",
            asks="How often did the second program refuse the first one's plan? Any is a defect: save the snapshot.",
            queries=(Query(expr="sum(increase(partage_plan_violations_total[$__range]))" + OR_NONE),),
            width=6,
            height=6,
            limits=NEVER,
        ),
        Panel(
            kind="stack",
            title="Devices by domain",
            asks="Who had how many devices when? Every step between domains has scrub proofs below.",
            queries=(Query(expr="sum by (domain) (partage_devices)", legend="{{domain}}"),),
        ),
        Panel(
            kind="stack",
            title="Scrub proofs",
            asks="From which domain to which, and with which result? Simulated proofs are named as such.",
            queries=(
                Query(
                    expr=(
                        "sum by (from_domain, to_domain, result, simulated) "
                        "(increase(partage_scrubs_total[$__rate_interval]))"
                    ),
                    legend="{{from_domain}} to {{to_domain}}: {{result}} (simulated {{simulated}})",
                ),
            ),
        ),
        PRICE,
    ),
)

FAIRNESS = Row(
    title="Fairness",
    panels=(
        Panel(
            kind="lines",
            title="Held over entitled",
            asks="1 is exactly the share; above 1 is over-served, below 1 under-served while it wants more.",
            queries=(
                Query(
                    expr=(
                        f'sum by (tenant) (partage_share_gpu_millis{{part="held",{BY_SHARE}}})'
                        f' / (sum by (tenant) (partage_share_gpu_millis{{part="entitled",{BY_SHARE}}}) > 0)'
                    ),
                    legend="{{tenant}}",
                ),
            ),
        ),
        Panel(
            kind="number",
            title="Jain's index of fairness",
            asks="1 when all tenants that want capacity have the same part of their due; 1/n when one has it all.",
            queries=(Query(expr="partage_fairness_jain"),),
            unit="percentunit",
            width=6,
        ),
        Panel(
            kind="bars",
            title="Longest wait by tenant",
            asks="Does anybody starve?",
            queries=(
                Query(
                    expr=f"max by (tenant) (partage_claim_oldest_wait_seconds{{{BY_TENANT}}})",
                    legend="{{tenant}}",
                ),
            ),
            unit="s",
            width=6,
        ),
    ),
)

BOARD = Board(
    uid="partage-isolation",
    title="partage / Fairness and isolation",
    purpose="Two domains never on one device, every change of domain proved, surplus shared by weight.",
    choices=(DOMAIN, TENANT, FLAVOR),
    rows=(ISOLATION, FAIRNESS),
)
