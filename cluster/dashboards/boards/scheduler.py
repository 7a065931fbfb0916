"""Is the scheduler itself well: does it lead, decide, see and record?"""

from __future__ import annotations

from cluster.dashboards.boards.scope import quantile
from cluster.dashboards.spec import Board, Limit, Panel, Query, Row

HEALTH = Row(
    title="Health",
    panels=(
        Panel(
            kind="number",
            title="Leader",
            asks="Does this control plane lead? Exactly one must.",
            queries=(Query(expr="sum(partage_leader)"),),
            width=4,
            height=5,
            words=(("0", "nobody"), ("1", "one leader"), ("2", "TWO LEADERS")),
        ),
        Panel(
            kind="number",
            title="Since the last decision",
            asks="Does it still decide? Beyond a minute follow DecisionLoopStalled.",
            queries=(Query(expr="time() - max(partage_last_decision_timestamp_seconds)"),),
            unit="s",
            width=4,
            height=5,
            limits=(Limit(at=15, colour="orange"), Limit(at=60, colour="red")),
        ),
        Panel(
            kind="number",
            title="Not seen",
            asks="How many devices, clusters or gateways are not seen? A gap may hold a move, never cause one.",
            queries=(Query(expr="sum(partage_gaps)"),),
            width=4,
            height=5,
            limits=(Limit(at=1, colour="orange"),),
        ),
        Panel(
            kind="number",
            title="Moves held by gaps",
            asks="How many moves wait because something is not seen?",
            queries=(Query(expr="max(partage_held_by_gaps)"),),
            width=4,
            height=5,
            limits=(Limit(at=1, colour="orange"),),
        ),
        Panel(
            kind="number",
            title="Audit chain",
            asks="Is the record whole? `partage audit verify` names the first bad record.",
            queries=(Query(expr="min(partage_audit_chain_intact)"),),
            width=4,
            height=5,
            words=(("0", "BROKEN"), ("1", "intact")),
        ),
        Panel(
            kind="number",
            title="Stale writers refused",
            asks="How often was an older leader refused in the shown period? After a take-over one or two are normal.",
            queries=(Query(expr="sum(increase(partage_fencing_refusals_total[$__range]))"),),
            width=4,
            height=5,
            limits=(Limit(at=5, colour="orange"),),
        ),
    ),
)

WORK = Row(
    title="Work",
    panels=(
        Panel(
            kind="lines",
            title="Time of a decision",
            asks="How long does the pure decision take? It grows with claims times devices.",
            queries=(
                Query(expr=quantile(0.5, "partage_decision_seconds", "", ""), legend="half"),
                Query(expr=quantile(0.99, "partage_decision_seconds", "", ""), legend="99 %"),
            ),
            unit="s",
        ),
        Panel(
            kind="lines",
            title="Time of a turn",
            asks="How long from observation to recorded outcome? The rest of the turn is the outside world.",
            queries=(
                Query(expr=quantile(0.5, "partage_turn_seconds", "", ""), legend="half"),
                Query(expr=quantile(0.99, "partage_turn_seconds", "", ""), legend="99 %"),
            ),
            unit="s",
        ),
        Panel(
            kind="lines",
            title="Search against its budget",
            asks="How much of the search budget does a decision use? At the budget, answers say SEARCH_INCOMPLETE.",
            queries=(
                Query(expr="max(partage_search_steps)", legend="steps"),
                Query(expr="max(partage_search_budget_steps)", legend="budget"),
            ),
        ),
        Panel(
            kind="stack",
            title="Evictions",
            asks="How many groups lose their place, and why?",
            queries=(
                Query(
                    expr="sum by (reason) (increase(partage_evictions_total[$__rate_interval]))",
                    legend="{{reason}}",
                ),
            ),
        ),
        Panel(
            kind="stack",
            title="Actions by kind",
            asks="What did the actuators do?",
            queries=(
                Query(expr="sum by (kind) (increase(partage_actions_total[$__rate_interval]))", legend="{{kind}}"),
            ),
        ),
        Panel(
            kind="stack",
            title="Actions that did not succeed",
            asks="What was refused or failed? A refused action means the world had moved on; a failed one is retried.",
            queries=(
                Query(
                    expr=(
                        'sum by (kind, status) (increase(partage_actions_total{status!="accepted"}[$__rate_interval]))'
                    ),
                    legend="{{kind}} {{status}}",
                ),
            ),
        ),
        Panel(
            kind="lines",
            title="Writing the journal",
            asks="How long does a record take, and does the disk keep up?",
            queries=(Query(expr=quantile(0.99, "partage_journal_write_seconds", "", ""), legend="99 %"),),
            unit="s",
        ),
        Panel(
            kind="states",
            title="Mode",
            asks="Which mode was in force when?",
            queries=(Query(expr="max by (mode) (partage_mode)", legend="{{mode}}"),),
            words=(("0", "off"), ("1", "in force")),
        ),
        Panel(
            kind="table",
            title="Policy in force",
            asks="Which revision, by digest? Every decision names the digest that it was taken under.",
            queries=(Query(expr="partage_policy_info"),),
            width=24,
            height=5,
            hides=("Value",),
        ),
    ),
)

BOARD = Board(
    uid="partage-scheduler",
    title="partage / Scheduler",
    purpose="Whether the scheduler leads, decides, sees and records; how long it takes.",
    rows=(HEALTH, WORK),
)
