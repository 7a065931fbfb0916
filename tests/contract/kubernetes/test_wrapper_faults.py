"""F15, F16: whatever the API server answers, the wrapper says what it means, and the copies end up true."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from random import Random  # noqa: TID251 - seeded

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.clock import SystemClock
from cluster.kubernetes.api import Api, Patience, Selection
from cluster.kubernetes.kinds import Kind
from cluster.kubernetes.mirror import Copy, Mirror, MirrorLimits
from cluster.kubernetes.refusals import ApiRefusal, NotAllowed, Stale, Unavailable

from .conftest import Served

CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")
DEFAULT = Selection(namespace="default")
LIST = "/api/v1/namespaces/default/configmaps"
QUICK = MirrorLimits(watch_s=1, resync_ms=600_000, first_wait_ms=5, longest_wait_ms=20)


class Waits:
    """A clock on which waiting takes no time and is written down."""

    def __init__(self) -> None:
        self.waited: list[int] = []

    def now_ms(self) -> int:
        return SystemClock().now_ms()

    def monotonic_ms(self) -> int:
        return SystemClock().monotonic_ms()

    def sleep_ms(self, duration_ms: int) -> None:
        self.waited.append(duration_ms)


def api_of(fake: Served, waits: Waits, **patience: int) -> Api:
    return Api(fake.connection(Patience(**patience)), waits, Random(1))  # noqa: S311 - jitter


FAULTS = {
    "500": {"status": 500, "body": b'{"kind":"Status","status":"Failure","message":"etcd","code":500}'},
    "503": {"status": 503},
    "an HTML error page": {
        "status": 502,
        "body": b"<html><b>Bad Gateway</b>",
        "headers": {"Content-Type": "text/html"},
    },
    "HTML with 200": {"status": 200, "body": b"<html>login</html>", "headers": {"Content-Type": "text/html"}},
    "an error body with 200": {
        "status": 200,
        "body": b'{"kind":"Status","status":"Failure","reason":"InternalError","message":"x","code":500}',
    },
    "truncated JSON": {"kind": "truncate"},
    "a reset connection": {"kind": "reset"},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_f15_a_passing_fault_is_ridden_out(fake: Served, fault: dict) -> None:
    waits = Waits()
    fake.fake.fail("GET", LIST, times=2, **fault)
    found, _ = api_of(fake, waits).list_all(CONFIG_MAPS, DEFAULT)
    assert found == []
    assert len(waits.waited) == 2


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_f15_a_lasting_fault_ends_with_a_reason_and_a_bounded_number_of_tries(fake: Served, fault: dict) -> None:
    waits = Waits()
    fake.fake.fail("GET", LIST, times=99, **fault)
    with pytest.raises(Unavailable, match="GET /api/v1/namespaces/default/configmaps") as refused:
        api_of(fake, waits, attempts=4).list_all(CONFIG_MAPS, DEFAULT)
    assert len(waits.waited) == 3
    assert len(str(refused.value)) < 800


def test_f15_a_server_that_hangs_is_given_up_on(fake: Served) -> None:
    fake.fake.fail("GET", LIST, times=1, kind="hang")
    waits = Waits()
    found, _ = api_of(fake, waits, timeout_s=1).list_all(CONFIG_MAPS, DEFAULT)
    assert found == []


def test_f15_retry_after_is_honoured_but_not_without_bound(fake: Served) -> None:
    waits = Waits()
    fake.fake.fail("GET", LIST, status=429, headers={"Retry-After": "3"})
    fake.fake.fail("GET", LIST, status=429, headers={"Retry-After": "86400"})
    api_of(fake, waits, longest_wait_ms=5000).list_all(CONFIG_MAPS, DEFAULT)
    assert waits.waited[0] == 3000
    assert waits.waited[1] == 5000


def test_f15_waits_grow_and_are_not_the_same_for_everyone(fake: Served) -> None:
    def waits_of(seed: int) -> list[int]:
        fake.fake.faults.clear()
        fake.fake.fail("GET", LIST, times=4, status=503)
        waits = Waits()
        Api(fake.connection(), waits, Random(seed)).list_all(CONFIG_MAPS, DEFAULT)  # noqa: S311 - jitter
        return waits.waited

    first, second = waits_of(1), waits_of(2)
    assert first[0] < first[-1]
    assert first != second


def test_f15_what_retrying_cannot_cure_is_not_retried(fake: Served) -> None:
    waits = Waits()
    fake.fake.fail("GET", LIST, status=403, body=b'{"kind":"Status","reason":"Forbidden","message":"no","code":403}')
    with pytest.raises(NotAllowed, match="the chart's Role"):
        api_of(fake, waits).list_all(CONFIG_MAPS, DEFAULT)
    assert waits.waited == []


def test_f15_a_create_is_not_tried_twice_because_the_first_may_have_worked(fake: Served) -> None:
    fake.fake.fail("POST", LIST, kind="truncate")
    with pytest.raises(Unavailable):
        api_of(fake, Waits()).create(CONFIG_MAPS, "default", {"metadata": {"name": "a"}})
    assert fake.api().get(CONFIG_MAPS, "default", "a")


def test_a_wrong_token_is_said_to_be_one(fake: Served) -> None:
    stranger = Served(fake.url, "wrong", None, None)
    with pytest.raises(NotAllowed):
        stranger.api().list_all(CONFIG_MAPS, DEFAULT)


def _until(what: Callable[[], bool]) -> None:
    for _ in range(400):
        if what():
            return
        SystemClock().sleep_ms(10)
    raise AssertionError("it did not come about")


def _names(mirror: Mirror) -> list[str]:
    return [obj["metadata"]["name"] for obj in mirror.objects()]


@pytest.fixture
def mirror(fake: Served):
    mirror = Mirror(fake.api(), SystemClock(), CONFIG_MAPS, DEFAULT, limits=QUICK)
    mirror.start()
    yield mirror
    mirror.stop()


def _make(fake: Served, name: str) -> None:
    fake.api().create(CONFIG_MAPS, "default", {"metadata": {"name": name}})


def test_a_copy_follows_the_server(fake: Served, mirror: Mirror) -> None:
    _make(fake, "a")
    _until(lambda: _names(mirror) == ["a"])
    fake.api().delete(CONFIG_MAPS, "default", "a")
    _until(lambda: _names(mirror) == [])


def test_f15_a_forgotten_version_makes_it_list_again(fake: Served, mirror: Mirror) -> None:
    _make(fake, "a")
    _until(lambda: _names(mirror) == ["a"])
    fake.fake.store.compact()
    _make(fake, "b")
    fake.fake.drop_connections()
    _until(lambda: _names(mirror) == ["a", "b"])


def test_cut_connections_lose_nothing(fake: Served, mirror: Mirror) -> None:
    for name in "abcdef":
        _make(fake, name)
        fake.fake.drop_connections()
    _until(lambda: _names(mirror) == list("abcdef"))


def test_f15_a_server_down_for_a_while_is_a_trouble_with_a_name_then_none(fake: Served, mirror: Mirror) -> None:
    _until(lambda: mirror.trouble == "")
    fake.fake.fail("GET", LIST, times=20, status=503)
    fake.fake.drop_connections()
    _until(lambda: mirror.trouble == "kubernetes_unavailable")
    _make(fake, "a")
    _until(lambda: mirror.trouble == "" and _names(mirror) == ["a"])


def test_f16_bookmarks_alone_keep_a_copy_fresh_through_a_compaction(fake: Served, mirror: Mirror) -> None:
    _make(fake, "a")
    _until(lambda: _names(mirror) == ["a"])
    lists = sum(request.verb == "list" for request in fake.fake.requests)
    for number in range(5):
        fake.api().create(Kind("", "v1", "secrets", "Secret"), "default", {"metadata": {"name": f"s{number}"}})
    _until(lambda: int(mirror._copy.version) >= fake.fake.store.rv)
    fake.fake.store.compact()
    _make(fake, "b")
    _until(lambda: _names(mirror) == ["a", "b"])
    assert sum(request.verb == "list" for request in fake.fake.requests) == lists


def test_a_kind_that_is_not_served_is_known_not_to_be(fake: Served) -> None:
    kind = Kind("resource.k8s.io", "v9", "resourceslices", "ResourceSlice", namespaced=False)
    mirror = Mirror(fake.api(), SystemClock(), kind, limits=QUICK)
    mirror.turn()
    assert not mirror.served()


def _history() -> list[tuple[str, dict]]:
    """Events of three objects, each made, changed and one removed, with growing versions."""
    version = itertools.count(1)

    def obj(name: str, value: int) -> dict:
        return {"metadata": {"name": name, "resourceVersion": str(next(version))}, "value": value}

    return [
        ("ADDED", obj("a", 1)),
        ("ADDED", obj("b", 1)),
        ("MODIFIED", obj("a", 2)),
        ("ADDED", obj("c", 1)),
        ("DELETED", obj("b", 1)),
        ("MODIFIED", obj("c", 2)),
        ("MODIFIED", obj("a", 3)),
    ]


@given(st.permutations(range(7)), st.lists(st.integers(0, 6), max_size=5))
@settings(max_examples=200, deadline=None)
def test_f16_duplicates_and_disorder_end_in_the_same_copy(order: list[int], again: list[int]) -> None:
    history = _history()
    copy = Copy()
    for index in [*order, *again]:
        kind, obj = history[index]
        copy.change({"type": kind, "object": obj})
    assert {obj["metadata"]["name"]: obj["value"] for obj in copy.objects()} == {"a": 3, "c": 2}


@given(st.sets(st.integers(0, 6)))
@settings(max_examples=100, deadline=None)
def test_f16_lost_events_are_made_good_by_the_next_list(lost: set[int]) -> None:
    copy = Copy()
    for index, (kind, obj) in enumerate(_history()):
        if index not in lost:
            copy.change({"type": kind, "object": obj})
    truth = [{"metadata": {"name": "a", "resourceVersion": "7"}}, {"metadata": {"name": "c", "resourceVersion": "6"}}]
    copy.replace(truth, "9")
    assert [obj["metadata"]["name"] for obj in copy.objects()] == ["a", "c"]


def test_a_refusal_reads_as_a_sentence_with_something_to_do() -> None:
    seen: set[str] = set()
    for refusal in (*ApiRefusal.__subclasses__(), ApiRefusal):
        text = str(refusal("GET /x", 400, "Bad", "because"))
        assert text.startswith("GET /x: 400 Bad: because; ")
        seen.add(refusal.code)
    assert len(seen) == len(ApiRefusal.__subclasses__()) + 1


def test_two_writers_of_one_object_do_not_both_win(fake: Served) -> None:
    made = fake.api().create(CONFIG_MAPS, "default", {"metadata": {"name": "a"}, "data": {"n": "0"}})
    won: list[int] = []
    barrier = threading.Barrier(4)

    def write(number: int) -> None:
        api = fake.api()
        barrier.wait()
        try:
            api.replace(CONFIG_MAPS, "default", "a", {**made, "data": {"n": str(number)}})
            won.append(number)
        except Stale:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
