"""For each alert: what the world looks like when it must ring, and a near miss when it must not."""

from dataclasses import dataclass

TWO_DAYS = 60 * 24 * 2


@dataclass(frozen=True)
class Case:
    rings: dict[str, str]
    quiet: dict[str, str]
    at: str = "30m"
    step: str = "1m"


SHARE = 'domain="civil",tenant="civil/justice",flavor="h100"'
GPU = 'UUID="GPU-1",gpu="0",Hostname="n1"'

CASES = {
    "DomainCoResidency": Case(
        rings={"partage_coresident_devices": "0x29 1x5"}, quiet={"partage_coresident_devices": "0x60"}
    ),
    "GuaranteeViolated": Case(
        rings={
            f"partage_floor_deficit_seconds{{{SHARE}}}": "0x28 119 150",
            'partage_reclaim_deadline_seconds{domain="civil",tenant="civil/justice"}': "120x60",
        },
        quiet={
            f"partage_floor_deficit_seconds{{{SHARE}}}": "0x28 60 119x10",
            'partage_reclaim_deadline_seconds{domain="civil",tenant="civil/justice"}': "120x60",
        },
    ),
    "ReclaimBudgetBurn": Case(
        rings={
            'partage_reclaims_total{domain="civil",tenant="a",outcome="late"}': "0+1x120",
            'partage_reclaims_total{domain="civil",tenant="a",outcome="in_time"}': "0+3x120",
        },
        quiet={
            'partage_reclaims_total{domain="civil",tenant="a",outcome="late"}': "0x120",
            'partage_reclaims_total{domain="civil",tenant="a",outcome="in_time"}': "0+3x120",
        },
        at="2h",
    ),
    "AvailabilityBudgetBurn": Case(
        rings={
            'partage_gateway_requests_total{domain="civil",model="m",code="200"}': "0+90x120",
            'partage_gateway_requests_total{domain="civil",model="m",code="503"}': "0+10x120",
        },
        quiet={
            'partage_gateway_requests_total{domain="civil",model="m",code="200"}': "0+1000x120",
            'partage_gateway_requests_total{domain="civil",model="m",code="503"}': "0+1x120",
            'partage_gateway_requests_total{domain="civil",model="m",code="429"}': "0+500x120",
        },
        at="2h",
    ),
    "FirstTokenBudgetBurn": Case(
        rings={
            'partage_gateway_ttft_seconds_bucket{domain="civil",model="m",le="2.0"}': "0+10x120",
            'partage_gateway_ttft_seconds_count{domain="civil",model="m"}': "0+100x120",
        },
        quiet={
            'partage_gateway_ttft_seconds_bucket{domain="civil",model="m",le="2.0"}': "0+98x120",
            'partage_gateway_ttft_seconds_count{domain="civil",model="m"}': "0+100x120",
        },
        at="2h",
    ),
    "ClaimStarving": Case(
        rings={'partage_claim_oldest_wait_seconds{domain="civil",tenant="civil/justice"}': "3000+60x60"},
        quiet={'partage_claim_oldest_wait_seconds{domain="civil",tenant="civil/justice"}': "3500x60"},
    ),
    "QuotaAlmostFull": Case(
        rings={
            f'partage_share_gpu_millis{{{SHARE},part="held"}}': "3700x60",
            f'partage_share_gpu_millis{{{SHARE},part="nominal"}}': "4000x60",
        },
        quiet={
            f'partage_share_gpu_millis{{{SHARE},part="held"}}': "3500x60",
            f'partage_share_gpu_millis{{{SHARE},part="nominal"}}': "4000x60",
        },
    ),
    "ModeInForce": Case(
        rings={'partage_mode{mode="crisis"}': "1x400", 'partage_mode{mode="normal"}': "0x400"},
        quiet={'partage_mode{mode="crisis"}': "0x100 1x200 0x100", 'partage_mode{mode="normal"}': "1x400"},
        at="6h",
    ),
    "TelemetryStale": Case(
        rings={f"partage_device_sample_age_seconds{{{GPU}}}": "1x26 30+30x10"},
        quiet={f"partage_device_sample_age_seconds{{{GPU}}}": "1x20 59x20"},
    ),
    "GpuLost": Case(
        rings={
            'partage_gaps{kind="device"}': "0x40",
            f'partage_device_health{{{GPU}, reason="gpu_is_lost"}}': "_x25 2x10",
        },
        quiet={'partage_gaps{kind="device"}': "0x40", 'partage_gaps{kind="demand"}': "3x40"},
    ),
    "GpuXidCritical": Case(
        rings={f"DCGM_FI_DEV_XID_ERRORS{{{GPU}}}": "0x28 79x5"},
        quiet={f"DCGM_FI_DEV_XID_ERRORS{{{GPU}}}": "0x20 13x20"},
    ),
    "EccRowRemapFailure": Case(
        rings={f"DCGM_FI_DEV_ROW_REMAP_FAILURE{{{GPU}}}": "0x28 1x5"},
        quiet={f"DCGM_FI_DEV_ROW_REMAP_FAILURE{{{GPU}}}": "0x40"},
    ),
    "GpuThermal": Case(
        rings={f"DCGM_FI_DEV_GPU_TEMP{{{GPU}}}": "60x20 91x20"},
        quiet={f"DCGM_FI_DEV_GPU_TEMP{{{GPU}}}": "60x20 9223372036854775794x20"},
    ),
    "NodeUnreachable": Case(
        rings={'partage_gaps{kind="node"}': "0x25 1x10"}, quiet={'partage_gaps{kind="node"}': "0x28 1x1 0x10"}
    ),
    "DomainNotSeen": Case(
        rings={'partage_gaps{kind="gateway"}': "0x25 1x10"}, quiet={'partage_gaps{kind="gateway"}': "0x28 1x1 0x10"}
    ),
    "ForeignProcess": Case(
        rings={f"partage_device_foreign_processes{{{GPU}}}": "0x25 1x10"},
        quiet={f"partage_device_foreign_processes{{{GPU}}}": "0x40"},
    ),
    "ScrubFailed": Case(
        rings={'partage_devices{scrub="failed",domain="civil"}': "0x28 1x5"},
        quiet={'partage_devices{scrub="failed",domain="civil"}': "0x40", 'partage_devices{scrub="dirty"}': "4x40"},
    ),
    "IdleHeldGpu": Case(
        rings={
            f"DCGM_FI_DEV_GPU_UTIL{{{GPU}}}": "0x120",
            'partage_device_info{UUID="GPU-1",tenant="civil/justice",claim="civil/justice:chat"}': "1x120",
        },
        quiet={
            f"DCGM_FI_DEV_GPU_UTIL{{{GPU}}}": "0x120",
            'partage_device_info{UUID="GPU-1",tenant="",claim=""}': "1x120",
        },
        at="2h",
    ),
    "SchedulerNotLeading": Case(rings={"partage_leader": "1x20 0x20"}, quiet={"partage_leader": "1x40"}),
    "TwoLeadersObserved": Case(
        rings={'partage_leader{instance="a"}': "1x40", 'partage_leader{instance="b"}': "0x20 1x20"},
        quiet={'partage_leader{instance="a"}': "1x40", 'partage_leader{instance="b"}': "0x40"},
    ),
    "DecisionLoopStalled": Case(
        rings={"partage_last_decision_timestamp_seconds": "0+60x20 1200x20"},
        quiet={"partage_last_decision_timestamp_seconds": "0+60x40"},
    ),
    "PlanRefused": Case(
        rings={'partage_plan_violations_total{rule="co_residency"}': "0x25 1x10"},
        quiet={'partage_plan_violations_total{rule="co_residency"}': "1x40"},
    ),
    "MovesHeldByGaps": Case(rings={"partage_held_by_gaps": "0x10 2x30"}, quiet={"partage_held_by_gaps": "0x25 2x10"}),
    "ActionsFailing": Case(
        rings={'partage_actions_total{domain="civil",kind="start_group",status="failed"}': "0+1x40"},
        quiet={'partage_actions_total{domain="civil",kind="start_group",status="accepted"}': "0+1x40"},
    ),
    "StaleWriterRefused": Case(
        rings={"partage_fencing_refusals_total": "0+1x40"}, quiet={"partage_fencing_refusals_total": "0x20 2x20"}
    ),
    "AuditChainBroken": Case(
        rings={"partage_audit_chain_intact": "1x28 0x5"}, quiet={"partage_audit_chain_intact": "1x40"}
    ),
    "JournalSlow": Case(
        rings={
            'partage_journal_write_seconds_bucket{le="1.0"}': "0x40",
            'partage_journal_write_seconds_bucket{le="2.5"}': "0+10x40",
            'partage_journal_write_seconds_bucket{le="+Inf"}': "0+10x40",
        },
        quiet={
            'partage_journal_write_seconds_bucket{le="1.0"}': "0+10x40",
            'partage_journal_write_seconds_bucket{le="2.5"}': "0+10x40",
            'partage_journal_write_seconds_bucket{le="+Inf"}': "0+10x40",
        },
    ),
    "PolicyMissing": Case(rings={"up": "1x40"}, quiet={'partage_policy_info{revision="r1"}': "1x40"}),
}
