"""What callers feel: time to the first token, time per token, queues, refusals."""

from __future__ import annotations

from cluster.dashboards.boards.scope import BY_MODEL, DOMAIN, MODEL, TENANT, quantile
from cluster.dashboards.spec import Board, Limit, Panel, Query, Row

OK = 'code=~"2.."'

ANSWERS = Row(
    title="Answers",
    panels=(
        Panel(
            kind="number",
            title="Answered",
            asks="What share of accepted requests was answered in the shown period? Callers' own faults are left out.",
            queries=(
                Query(
                    expr=(
                        f"sum(increase(partage_gateway_requests_total{{{OK},{BY_MODEL}}}[$__range]))"
                        f' / sum(increase(partage_gateway_requests_total{{code!~"4..",{BY_MODEL}}}[$__range]))'
                    )
                ),
            ),
            unit="percentunit",
            width=6,
            height=5,
        ),
        Panel(
            kind="number",
            title="Requests per second",
            asks="How busy are the gateways?",
            queries=(Query(expr=f"sum(rate(partage_gateway_requests_total{{{BY_MODEL}}}[$__rate_interval]))"),),
            unit="reqps",
            width=6,
            height=5,
        ),
        Panel(
            kind="number",
            title="Waiting in queues",
            asks="How many requests wait for a replica now?",
            queries=(Query(expr='sum(partage_gateway_queued{domain=~"$domain"})'),),
            width=6,
            height=5,
            limits=(Limit(at=50, colour="orange"), Limit(at=200, colour="red")),
        ),
        Panel(
            kind="number",
            title="Shed",
            asks="How many requests were refused for lack of capacity in the shown period?",
            queries=(Query(expr='sum(increase(partage_gateway_shed_total{domain=~"$domain"}[$__range]))'),),
            width=6,
            height=5,
            limits=(Limit(at=1, colour="orange"),),
        ),
    ),
)

SPEED = Row(
    title="Speed",
    panels=(
        Panel(
            kind="lines",
            title="Time to first token, 95 %",
            asks="How long do callers wait for the first word? The promise is in the model's class.",
            queries=(
                Query(
                    expr=quantile(0.95, "partage_gateway_ttft_seconds", BY_MODEL, "domain, model"),
                    legend="{{domain}} {{model}}",
                ),
            ),
            unit="s",
            limits=(Limit(at=1, colour="orange"), Limit(at=5, colour="red")),
        ),
        Panel(
            kind="lines",
            title="Time per output token, 95 %",
            asks="How fast do the words follow? Above 200 ms reading stalls.",
            queries=(
                Query(
                    expr=quantile(0.95, "partage_gateway_tpot_seconds", BY_MODEL, "domain, model"),
                    legend="{{domain}} {{model}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            kind="heat",
            title="Time to first token, every request",
            asks="Is there a slow group that the quantile hides, such as requests that met a cold start?",
            queries=(
                Query(
                    expr=f"sum by (le) (increase(partage_gateway_ttft_seconds_bucket{{{BY_MODEL}}}[$__rate_interval]))",
                    legend="{{le}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            kind="stack",
            title="Tokens per second by tenant",
            asks="Whose work is it?",
            queries=(
                Query(
                    expr=f"sum by (tenant) (rate(partage_gateway_tokens_total{{{BY_MODEL}}}[$__rate_interval]))",
                    legend="{{tenant}}",
                ),
            ),
        ),
    ),
)

PRESSURE = Row(
    title="Pressure",
    panels=(
        Panel(
            kind="stack",
            title="Queue by class",
            asks="Which class waits? Higher classes should be empty while lower ones wait.",
            queries=(
                Query(
                    expr='sum by (domain, class) (partage_gateway_queued{domain=~"$domain"})',
                    legend="{{domain}} {{class}}",
                ),
            ),
        ),
        Panel(
            kind="stack",
            title="Shed by reason",
            asks="Why were requests refused? `deadline` and `queue_full` ask for capacity.",
            queries=(
                Query(
                    expr=(
                        'sum by (class, reason) (rate(partage_gateway_shed_total{domain=~"$domain"}[$__rate_interval]))'
                    ),
                    legend="{{class}} {{reason}}",
                ),
            ),
            unit="reqps",
        ),
        Panel(
            kind="stack",
            title="Requests by status",
            asks="What did callers get?",
            queries=(
                Query(
                    expr=f"sum by (code) (rate(partage_gateway_requests_total{{{BY_MODEL}}}[$__rate_interval]))",
                    legend="{{code}}",
                ),
            ),
            unit="reqps",
            width=24,
        ),
    ),
)

BOARD = Board(
    uid="partage-serving",
    title="partage / Serving",
    purpose="What callers feel: first token, tokens, queue by class, refusals.",
    choices=(DOMAIN, TENANT, MODEL),
    rows=(ANSWERS, SPEED, PRESSURE),
)
