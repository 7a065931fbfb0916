"""Claims and tenants as custom resources: one model with the HTTP API, owned by namespace, answered in the status."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import kopf
import pytest

from cluster.clock import SystemClock
from cluster.kubernetes.api import Selection
from cluster.kubernetes.controller import MOVED_ON_EVERY_MS, Controller, Office
from cluster.kubernetes.kinds import CLAIMS, EVENTS, TENANTS
from cluster.sim.journal import MemoryJournal, MemoryRegistry, Shared
from policies.model.catalogue import Model, Variant
from policies.model.decision import ClaimState, PendingReason, Reason
from policies.model.memory import Memory
from policies.model.tenancy import PriorityClass
from policies.model.units import ClaimId, ModelId, VariantId
from policies.model.workload import Shape
from tests.cluster.nouns import a_decision, a_policy

from .conftest import Kubectl, Served, make_namespace

SMALL = Model(
    id=ModelId("small"),
    context_tokens=2048,
    variants=(
        Variant(
            id=VariantId("q4"),
            engine="synthetic",
            precision="q4",
            weights="",
            weights_mib=0,
            shapes=(Shape(flavors=()),),
        ),
    ),
)


def until(what: Callable[[], object]) -> object:
    for _ in range(400):
        if found := what():
            return found
        SystemClock().sleep_ms(25)
    raise AssertionError("it did not come about")


class AheadClock(SystemClock):
    """A clock that can be put forward."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


class Desk:
    def __init__(self, served: Served, namespace: str) -> None:
        self.api, self.namespace, self.clock = served.api(), namespace, AheadClock()
        shared = Shared()
        self.journal, self.registry = MemoryJournal(shared), MemoryRegistry(shared, 100)
        classes = (PriorityClass(name="standard", value=0),)
        self.registry.put_policy(replace(a_policy("start"), priority_classes=classes))
        self.path = f"civil/{namespace}"
        self.refusals = 0
        """Logins that are still to be refused."""
        self.breaks = 0
        """Times that following the resources is still to break off."""

        def login(**_: object) -> kopf.ConnectionInfo:
            if self.refusals:
                self.refusals -= 1
                raise FileNotFoundError("the token is not there yet")
            return kopf.ConnectionInfo(server=served.url, token=served.token or None, ca_path=served.ca_file)

        office = Office(
            api=self.api,
            clock=self.clock,
            journal=self.journal,
            registry=self.registry,
            models=lambda: (SMALL,),
            wake=lambda: None,
            login=login,
            follow=self.follow,
            restart_s=0.1,
        )
        self.controller = Controller(office)

    async def follow(self, **given: object) -> None:
        if self.breaks:
            self.breaks -= 1
            raise ConnectionResetError
        await kopf.operator(**given)

    def claim(self, name: str = "chat", **spec: object) -> None:
        body = {"metadata": {"name": name}, "spec": {"kind": "serving", "model": "small", **spec}}
        self.api.create(CLAIMS, self.namespace, body)

    def tenant(self, **spec: object) -> None:
        body = {"metadata": {"name": self.namespace}, "spec": {"path": self.path, "namespace": self.namespace, **spec}}
        self.api.create(TENANTS, None, body)

    def ids(self) -> list[str]:
        return [claim.id for claim in self.journal.claims()]

    def status(self, name: str = "chat") -> dict:
        return self.api.get(CLAIMS, self.namespace, name).get("status") or {}

    def decide(self, *reasons: Reason) -> None:
        self.controller.publish(replace(a_decision(Memory()), reasons=reasons))

    def id(self, name: str = "chat") -> ClaimId:
        return ClaimId(f"{self.path}:{name}")


@pytest.fixture
def shut_desk(served: Served, namespace: str) -> Iterator[Desk]:
    desk = Desk(served, namespace)
    yield desk
    for kind in (CLAIMS, TENANTS):
        for obj in desk.api.list_all(kind)[0]:
            meta = obj["metadata"]
            desk.api.delete(kind, meta.get("namespace"), meta["name"])
    until(lambda: not desk.api.list_all(CLAIMS)[0] and not desk.api.list_all(TENANTS)[0])
    desk.controller.stop()


@pytest.fixture
def desk(shut_desk: Desk) -> Desk:
    shut_desk.controller.start()
    return shut_desk


def test_a_controller_whose_token_is_not_there_yet_follows_claims_soon_after_it_is(shut_desk: Desk) -> None:
    shut_desk.refusals = 1
    shut_desk.controller.start()
    shut_desk.tenant()
    shut_desk.claim()
    until(lambda: shut_desk.ids() == [shut_desk.id()])
    assert shut_desk.refusals == 0


def test_a_controller_that_broke_off_is_begun_again_and_reads_what_it_missed(shut_desk: Desk) -> None:
    shut_desk.breaks = 2
    shut_desk.controller.start()
    shut_desk.tenant()
    shut_desk.claim()
    until(lambda: shut_desk.ids() == [shut_desk.id()])
    assert shut_desk.breaks == 0


def test_a_claim_and_its_tenant_reach_the_registry_in_any_order(desk: Desk) -> None:
    desk.claim()
    desk.tenant(fairWeight=3)
    until(lambda: desk.ids() == [desk.id()])
    (claim,) = desk.journal.claims()
    assert (claim.tenant, claim.model, claim.ladder) == (desk.path, "small", (Shape(flavors=()),))
    tenant = next(each for each in desk.journal.policy().tenants if each.id == desk.path)
    assert (tenant.fair_weight, tenant.parent) == (3, "civil")


def test_a_changed_claim_is_changed_and_a_deleted_one_is_gone(desk: Desk) -> None:
    desk.tenant()
    desk.claim()
    until(desk.ids)
    desk.api.merge(CLAIMS, desk.namespace, "chat", {"spec": {"replicas": {"max": 4}}})
    until(lambda: desk.journal.claims()[0].max_replicas == 4)
    desk.api.delete(CLAIMS, desk.namespace, "chat")
    until(lambda: desk.ids() == [])


def test_a_claim_that_makes_no_sense_says_why_in_its_status_and_is_not_registered(desk: Desk) -> None:
    desk.tenant()
    desk.claim(model="unheard-of")
    found = until(lambda: desk.status().get("state") and desk.status())
    assert found["state"] == "refused"
    assert "unheard-of" in found["sentence"]
    assert desk.ids() == []


CLAIM = """
apiVersion: partage.lu/v1alpha1
kind: Claim
metadata: {name: chat}
spec: {kind: serving, model: small, replicas: {min: 1, max: 4}}
"""


def test_kubectl_shows_where_a_claim_stands_and_why(desk: Desk, kubectl: Kubectl) -> None:
    desk.tenant()
    applied = kubectl("-n", desk.namespace, "apply", "-f", "-", stdin=CLAIM)
    assert applied.returncode == 0, applied.stderr
    until(desk.ids)
    waiting = Reason(
        claim=desk.id(),
        state=ClaimState.WAITING,
        code=PendingReason.WAITING_FOR_QUOTA,
        sentence="Your quota is in use; two devices are freed by 14:05.",
        position=1,
        eta_ms=1_800_000_000_000,
        eta_assumption="no owner takes capacity back",
        wanted_replicas=2,
    )
    desk.decide(waiting)
    line = kubectl("-n", desk.namespace, "get", "claims").stdout.splitlines()[1]
    assert line.split()[:8] == [
        "chat",
        "serving",
        "small",
        "waiting",
        "0",
        "2",
        "WAITING_FOR_QUOTA",
        "2027-01-15T08:00:00Z",
    ]
    conditions = {each["type"]: each for each in desk.status()["conditions"]}
    assert (conditions["Ready"]["status"], conditions["Ready"]["reason"]) == ("False", "WaitingForQuota")
    since = conditions["Ready"]["lastTransitionTime"]
    served = replace(waiting, state=ClaimState.SERVED, code=None, sentence="Served.", granted_replicas=2, eta_ms=None)
    desk.decide(replace(waiting, sentence="Your quota is in use; one device is freed by 14:02."))
    assert desk.status()["conditions"][1]["lastTransitionTime"] == since
    desk.decide(served)
    after = desk.status()
    assert (after["state"], after.get("reason"), after.get("eta")) == ("served", None, None)
    events = desk.api.list_all(EVENTS, Selection(namespace=desk.namespace))[0]
    assert sorted(event["reason"] for event in events) == ["Served", "WaitingForQuota"]
    described = kubectl("-n", desk.namespace, "describe", "claim", "chat").stdout
    assert "Served." in described.partition("Events:")[2]
    gone = kubectl("-n", desk.namespace, "delete", "claim", "chat", "--wait=false")
    assert gone.returncode == 0, gone.stderr
    until(lambda: desk.ids() == [])


def test_a_decision_that_says_the_same_writes_nothing(desk: Desk) -> None:
    desk.tenant()
    desk.claim()
    until(desk.ids)
    reason = Reason(claim=desk.id(), state=ClaimState.SERVED, code=None, sentence="Served.", granted_replicas=1)
    desk.decide(reason)
    version = desk.api.get(CLAIMS, desk.namespace, "chat")["metadata"]["resourceVersion"]
    desk.decide(reason)
    desk.decide(replace(reason, score_terms=(("age", 5),)))
    assert desk.api.get(CLAIMS, desk.namespace, "chat")["metadata"]["resourceVersion"] == version


def test_a_place_in_the_queue_that_moves_on_is_written_once_a_minute_and_anything_else_at_once(desk: Desk) -> None:
    desk.tenant()
    desk.claim()
    until(desk.ids)
    waiting = Reason(claim=desk.id(), state=ClaimState.WAITING, code=PendingReason.WAITING_FOR_QUOTA, sentence="Full.")
    desk.decide(replace(waiting, position=9))
    desk.decide(replace(waiting, position=8))
    assert desk.status()["position"] == 9
    desk.clock.ahead_ms = MOVED_ON_EVERY_MS
    desk.decide(replace(waiting, position=7))
    assert desk.status()["position"] == 7
    desk.decide(replace(waiting, sentence="Full until 14:05.", position=6))
    assert (desk.status()["sentence"], desk.status()["position"]) == ("Full until 14:05.", 6)


def test_a_tenant_that_would_make_the_policy_unsound_is_refused_in_its_status(desk: Desk) -> None:
    desk.tenant(quotas=[{"flavor": "H100-80GB", "nominalMillis": 1000, "lendingLimitMillis": 5000}])
    found = until(lambda: desk.api.get(TENANTS, None, desk.namespace).get("status"))
    (condition,) = found["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Accepted", "False", "Unsound")
    assert desk.path not in {tenant.id for tenant in desk.journal.policy().tenants}


def test_a_tenant_with_claims_stays_until_they_are_gone(desk: Desk) -> None:
    desk.tenant()
    desk.claim()
    until(desk.ids)
    desk.api.delete(TENANTS, None, desk.namespace)
    SystemClock().sleep_ms(300)
    assert desk.path in {tenant.id for tenant in desk.journal.policy().tenants}
    desk.api.delete(CLAIMS, desk.namespace, "chat")
    until(lambda: desk.path not in {tenant.id for tenant in desk.journal.policy().tenants})


def test_whose_a_claim_is_follows_from_its_namespace_alone(desk: Desk, served: Served) -> None:
    desk.tenant()
    other = make_namespace(desk.api, f"{desk.namespace}-b")
    text = {"apiVersion": "partage.lu/v1alpha1", "kind": "Claim", "metadata": {"name": "sly"}}
    body = {**text, "spec": {"kind": "serving", "model": "small"}}
    body["metadata"]["annotations"] = {"partage.lu/tenant": desk.path}
    desk.api.create(CLAIMS, other, json.loads(json.dumps(body)))
    desk.claim("mine")
    until(lambda: desk.ids() == [desk.id("mine")])
    SystemClock().sleep_ms(300)
    assert desk.ids() == [desk.id("mine")]
    desk.api.merge(CLAIMS, other, "sly", {"metadata": {"finalizers": None}})


def test_a_restarted_controller_adopts_what_is_there(desk: Desk) -> None:
    desk.tenant()
    desk.claim()
    until(desk.ids)
    desk.controller.stop()
    desk.registry.delete_claim(desk.id())
    desk.controller = Controller(desk.controller._office)
    desk.controller.start()
    until(lambda: desk.ids() == [desk.id()])
