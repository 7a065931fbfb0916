"""Fairness of the queue, as properties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.fair import PATIENCE_MS, RESERVED_PART, FairQueue, Ticket


def ticket(tenant: str, cost: int = 100, *, weight: int = 1, priority: int = 0) -> Ticket:
    return Ticket(tenant=tenant, cost=cost, weight=weight, priority=priority)


def serve(queue: FairQueue, count: int) -> list[Ticket]:
    return [served for _ in range(count) if (served := queue.pop()) is not None]


def test_a_flood_delays_another_tenant_by_one_request_however_long_it_is() -> None:
    for flood in (10, 1_000):
        queue = FairQueue(limit=10_000)
        for _ in range(flood):
            queue.push(ticket("flood"))
        serve(queue, 5)
        queue.push(ticket("calm"))
        position = [served.tenant for served in serve(queue, 10)].index("calm")
        assert position <= 1


def test_tenants_share_by_weight_in_tokens_not_in_requests() -> None:
    queue = FairQueue(limit=1_000)
    for _ in range(100):
        queue.push(ticket("many-small", 50, weight=2))
        queue.push(ticket("few-large", 400, weight=1))
    served = serve(queue, 40)
    tokens = {name: sum(t.cost for t in served if t.tenant == name) for name in ("many-small", "few-large")}
    assert abs(tokens["many-small"] - 2 * tokens["few-large"]) <= 800


def test_a_higher_class_is_served_first() -> None:
    queue = FairQueue(limit=10)
    queue.push(ticket("low"))
    queue.push(ticket("high", priority=5))
    assert [served.tenant for served in serve(queue, 2)] == ["high", "low"]


def served_of_each(queue: FairQueue, count: int, now_ms: int) -> dict[str, int]:
    tokens: dict[str, int] = {}
    for _ in range(count):
        if each := queue.pop(now_ms):
            tokens[each.tenant] = tokens.get(each.tenant, 0) + each.cost
    return tokens


def test_a_lower_class_waits_for_its_patience_and_then_gets_a_quarter_of_the_tokens() -> None:
    queue = FairQueue(limit=1_000)
    for _ in range(200):
        queue.push(ticket("high", 30, priority=5))
        queue.push(ticket("low", 100))
    assert served_of_each(queue, 20, PATIENCE_MS - 1) == {"high": 600}
    late = served_of_each(queue, 100, PATIENCE_MS)
    assert abs(late["high"] - (RESERVED_PART - 1) * late["low"]) <= 300 + 30


def test_three_classes_all_get_on_when_all_are_late() -> None:
    queue = FairQueue(limit=1_000)
    for _ in range(300):
        queue.push(ticket("high", 30, priority=9))
        queue.push(ticket("middle", 30, priority=5))
        queue.push(ticket("low", 100))
    tokens = served_of_each(queue, 300, PATIENCE_MS)
    assert tokens["high"] > tokens["middle"] > tokens["low"] > 0
    assert tokens["low"] >= sum(tokens.values()) / RESERVED_PART**2 - 200


def test_a_quarter_of_the_queue_is_not_taken_from_lower_classes() -> None:
    queue = FairQueue(limit=8)
    for _ in range(8):
        queue.push(ticket("low"))
    shed = [queue.push(ticket("high", priority=5)) for _ in range(20)]
    assert [each.tenant for each in shed if each] == ["low"] * 6 + ["high"] * 14
    assert sum(each.tenant == "low" for each in queue.waiting()) == 2


def test_a_full_queue_sheds_the_newest_of_the_tenant_that_waits_with_most() -> None:
    queue = FairQueue(limit=4)
    calm = ticket("calm")
    queue.push(calm)
    floods = [ticket("flood") for _ in range(4)]
    shed = [queue.push(each) for each in floods]
    assert shed == [None, None, None, floods[3]]
    assert not calm.is_gone


def test_a_newcomer_of_a_higher_class_pushes_out_the_lowest() -> None:
    queue = FairQueue(limit=1)
    low = ticket("low")
    queue.push(low)
    assert queue.push(ticket("high", priority=1)) is low


def test_tokens_that_were_expected_but_not_taken_are_given_back() -> None:
    queue = FairQueue(limit=100)
    for _ in range(4):
        queue.push(ticket("modest", 1_000))
        queue.push(ticket("other", 100))
    first = serve(queue, 1)[0]
    queue.settle(first, 100)
    queue.push(ticket("modest", 100))
    assert len(queue) == 8


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.integers(0, 1)), min_size=1, max_size=80),
    st.integers(1, 20),
    st.randoms(use_true_random=False),
)
def test_every_ticket_is_served_or_shed_once_and_the_limit_holds(
    arrivals: list[tuple[str, int, int]], limit: int, chance: object
) -> None:
    queue = FairQueue(limit=limit)
    gone: list[Ticket] = []
    for tenant, cost, priority in arrivals:
        shed = queue.push(ticket(tenant, cost, priority=priority))
        gone += [shed] if shed else []
        assert len(queue) <= limit
        if chance.random() < 0.3 and (served := queue.pop()):
            gone.append(served)
    gone += serve(queue, len(arrivals))
    assert len(gone) == len(arrivals) == len({id(each) for each in gone})
    assert len(queue) == 0


@given(st.lists(st.integers(1, 100), min_size=4, max_size=40), st.lists(st.integers(1, 100), min_size=4, max_size=40))
def test_while_both_wait_the_tokens_served_differ_by_at_most_a_request_of_each(
    ours: list[int], theirs: list[int]
) -> None:
    queue = FairQueue(limit=1_000)
    for tenant, costs in (("ours", ours), ("theirs", theirs)):
        for cost in costs:
            queue.push(ticket(tenant, cost))
    left = {"ours": len(ours), "theirs": len(theirs)}
    served = {"ours": 0, "theirs": 0}
    while all(left.values()):
        each = serve(queue, 1)[0]
        left[each.tenant] -= 1
        served[each.tenant] += each.cost
        assert abs(served["ours"] - served["theirs"]) <= max(ours) + max(theirs)
