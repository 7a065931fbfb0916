"""What the work costs: joules, GPU-hours and tokens per tenant, and what is held idle."""

from __future__ import annotations

from cluster.dashboards.boards.scope import BY_TENANT, DOMAIN, TENANT
from cluster.dashboards.spec import Board, Panel, Query, Row

BY_NAME = 'tenant=~"$tenant"'
WRITTEN = f'partage_gateway_tokens_total{{direction="out",{BY_TENANT}}}'
JOULES_PER_KWH = 3_600_000

USE = Row(
    title="Use",
    panels=(
        Panel(
            kind="bars",
            title="Energy by tenant",
            asks="How much energy did each tenant's work take in the shown period, in kWh?",
            queries=(
                Query(
                    expr=(
                        f"sum by (tenant) (increase(partage_tenant_energy_joules_total{{{BY_NAME}}}[$__range]))"
                        f" / {JOULES_PER_KWH}"
                    ),
                    legend="{{tenant}}",
                ),
            ),
            unit="kwatth",
        ),
        Panel(
            kind="bars",
            title="GPU-hours by tenant",
            asks="How many hours of a whole GPU did each tenant hold in the shown period?",
            queries=(
                Query(
                    expr=(
                        f"sum by (tenant) (increase(partage_tenant_gpu_seconds_total{{{BY_NAME}}}[$__range])) / 3600"
                    ),
                    legend="{{tenant}}",
                ),
            ),
            unit="h",
        ),
        Panel(
            kind="lines",
            title="Power by tenant",
            asks="Whose work draws how much power now?",
            queries=(
                Query(
                    expr=f"sum by (tenant) (rate(partage_tenant_energy_joules_total{{{BY_NAME}}}[$__rate_interval]))",
                    legend="{{tenant}}",
                ),
            ),
            unit="watt",
        ),
        Panel(
            kind="lines",
            title="Power of all devices",
            asks="How much do the devices draw together? The building must deliver and cool it.",
            queries=(Query(expr="sum(DCGM_FI_DEV_POWER_USAGE)", legend="devices"),),
            unit="watt",
        ),
    ),
)

WORTH = Row(
    title="Worth",
    panels=(
        Panel(
            kind="lines",
            title="Tokens per joule",
            asks="How much work comes out of the energy? It falls when devices are held and do not compute.",
            queries=(
                Query(
                    expr=(
                        f"sum by (tenant) (rate({WRITTEN}[$__rate_interval]))"
                        " / sum by (tenant) "
                        f"(rate(partage_tenant_energy_joules_total{{{BY_NAME}}}[$__rate_interval]))"
                    ),
                    legend="{{tenant}}",
                ),
            ),
        ),
        Panel(
            kind="lines",
            title="Held and idle",
            asks="How many held devices compute nothing? They can be lent, or given back.",
            queries=(
                Query(
                    expr=(
                        "count((max by (UUID) (DCGM_FI_DEV_GPU_UTIL) < 10) and on (UUID) "
                        'partage_device_info{tenant!="",domain=~"$domain"}) or vector(0)'
                    ),
                    legend="held, below 10 %",
                ),
                Query(
                    expr='count(partage_device_info{tenant!="",domain=~"$domain"}) or vector(0)',
                    legend="held",
                ),
            ),
        ),
    ),
)

BOARD = Board(
    uid="partage-energy",
    title="partage / Energy and cost",
    purpose="Joules, GPU-hours and tokens per tenant; what is held idle.",
    choices=(DOMAIN, TENANT),
    rows=(USE, WORTH),
)
