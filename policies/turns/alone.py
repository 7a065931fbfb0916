"""What simply runs, which are most: its wish and its seat are found at once, without going into what cannot apply.

Whatever could be otherwise is left to ``policies.wishes.admission`` and ``setting``; what is found here is what these
would find. Nothing else is decided here, so that a rule is written once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from policies.evidence.survey import Survey
from policies.fleet.board import Seat, seated
from policies.model.units import FlavorId
from policies.model.workload import Claim
from policies.wishes.admission import (
    FAILED,
    NEW,
    TRULY_IDLE,
    Ask,
    Fleet,
    Form,
    Forms,
    ask_of,
    asked,
    charge,
    form_of,
    wanted,
)

Wished = tuple[Ask, Seat | None]
"""A claim's wish, and its one replica at its place, where both were found at once."""


def each_wish(survey: Survey, fleet: Fleet, forms: Forms) -> Iterator[Wished]:
    """Yield the wish of each claim, when it is looked at: whoever goes on with it has its claim at hand."""
    for claim in survey.claims.values():
        form = form_of(survey, claim, fleet, forms)
        found = found_alone(survey, claim, form, fleet.memory) if form.is_one else None
        yield (ask_of(survey, claim, form), None) if found is None else found


def found_alone(survey: Survey, claim: Claim, form: Form, memory: Mapping[FlavorId, int]) -> Wished | None:
    """Return the wish and the seat of a claim whose one replica, all that it wants, may stay on its best rung.

    None where anything else may apply: another demand, an end or a deadline, idleness, several groups, a
    failure, a loss, another rung. ``form`` is one of which ``is_one`` holds. Cost: a look at each noun it rests on.
    """
    groups, remembered = survey.groups_of.get(claim.id), survey.remembered.get(claim.id, NEW)
    if groups is None or len(groups) != 1 or remembered.rung or remembered.idle_since_ms is not None:
        return None
    group, domain = groups[0], form.tenant.domain
    if group.rung or group.replicas != 1 or group.state is FAILED or group.usage is TRULY_IDLE:
        return None
    if claim.expires_at_ms is not None or claim.deadline_ms is not None:
        return None
    if claim.id in survey.demands and wanted(survey, claim, remembered, groups) != (1, None):
        return None
    worker, devices, shape = survey.workers.get(group.worker), group.devices, claim.ladder[0]
    if worker is None or worker.domain != domain or len(devices) != shape.devices:
        return None
    if not survey.has_all(devices) or not survey.lost.isdisjoint(devices):
        return None
    first, rank = survey.devices[devices[0]], form.rank
    wish = asked(  # in the order of its fields
        claim, form.tenant, rank, domain, rank.value, 1, 1, form.options, (), 0, groups, (), None, form.detail,
        form.is_paused,
    )  # fmt: skip
    return wish, seated(  # in the order of its fields
        claim.id, worker.domain, 0, group.worker, first.node, devices, shape.gpu_millis, shape.memory_mib,
        charge(shape, memory[first.flavor]), first.flavor, group, 0, shape.cpu_millis, shape.host_memory_mib,
    )  # fmt: skip
