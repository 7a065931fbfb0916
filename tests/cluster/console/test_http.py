"""The console's source over the HTTP API of a real control plane on simulated devices."""

import asyncio
import re

import pytest
import yaml

from cluster.clock import SystemClock
from cluster.console import devices
from cluster.console.http import HttpSource
from cluster.console.page import DRAW
from cluster.console.port import ConsoleRefused, ControlPlaneSilent, TokenRefused, Wish
from cluster.console.selection import Selection
from cluster.console.words import LANGUAGES, Words
from tests import simulated_platform

WISH = Wish(
    tenant="civil/health",
    name="night",
    model="",
    min_replicas=1,
    desired_replicas=1,
    max_replicas=1,
    priority_class="batch",
)


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with simulated_platform.running(tmp_path_factory.mktemp("home")) as found:
        client, documents = found.client(), simulated_platform.PROFILES
        policy = yaml.safe_load((documents / "default.yaml").read_text())["spec"]
        client.call("PUT", "/v1/policy", body=policy, headers={"If-None-Match": "*"})
        for document in yaml.safe_load_all((documents / "claims.yaml").read_text()):
            claim = document["spec"]
            client.call("PUT", f"/v1/claims/{claim['id']}", body=claim, headers={"If-None-Match": "*"})
        found.until(lambda: client.items("/v1/groups"))
        yield found


@pytest.fixture
def source(platform):
    return HttpSource(platform.url, SystemClock())


@pytest.fixture
def operator(platform):
    return platform.token_file.read_text()


@pytest.fixture
def tenant(platform):
    return platform.client().call("POST", "/v1/keys", body={"tenant": "civil/health"}).body["key"]


def asked(answer):
    return asyncio.run(answer)


def test_an_operator_sees_everything(source, operator):
    scene = asked(source.scene(operator))
    assert scene.simulated
    assert not scene.is_stale
    assert len(scene.devices) == 4
    assert {view.claim.tenant for view in scene.claims} == {"defence/cyber", "civil/justice", "civil/health"}
    assert scene.policy_revision == "default-1"
    assert scene.timeline
    assert all(spot.state for found in devices.spots(scene).values() for spot in found)


def test_a_tenant_sees_its_own_and_nothing_of_others(source, tenant):
    scene = asked(source.scene(tenant))
    assert {view.claim.tenant for view in scene.claims} == {"civil/health"}
    assert {share.entitlement.tenant for share in scene.shares} == {"civil/health"}
    assert scene.nodes == ()
    drawn = "".join("".join(DRAW[view](scene, Words("en"), Selection()).values()) for view in ("capacity", "models"))
    assert "defence" not in drawn
    assert "justice" not in drawn


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_view_can_be_drawn_from_what_the_api_says(source, operator, language):
    scene = asked(source.scene(operator))
    for draw in DRAW.values():
        assert all(re.search(r"<\w", markup) for markup in draw(scene, Words(language), Selection()).values() if markup)


def test_an_offer_changes_nothing_and_a_wish_becomes_a_claim(source, tenant):
    offer = asked(source.offer(tenant, WISH, Words("en")))
    assert offer.acceptable
    assert offer.lines
    assert "civil/health:night" not in {view.claim.id for view in asked(source.scene(tenant)).claims}
    asked(source.submit(tenant, WISH))
    assert "civil/health:night" in {view.claim.id for view in asked(source.scene(tenant)).claims}
    asked(source.delete(tenant, WISH.claim))
    assert "civil/health:night" not in {view.claim.id for view in asked(source.scene(tenant)).claims}


def test_a_wish_that_makes_no_sense_is_refused_in_the_offer(source, tenant):
    offer = asked(source.offer(tenant, Wish(**{**_fields(WISH), "priority_class": "no-such-class"}), Words("en")))
    assert not offer.acceptable
    assert "no-such-class" in " ".join(offer.lines)


def test_nobody_asks_for_another_tenant(source, tenant):
    with pytest.raises(ConsoleRefused):
        asked(source.submit(tenant, Wish(**{**_fields(WISH), "tenant": "defence/cyber"})))


def test_a_device_is_drained_and_put_back(source, operator):
    asked(source.cordon(operator, "GPU-simulated-3", "fan"))
    assert asked(source.scene(operator)).cordoned == ("GPU-simulated-3",)
    asked(source.uncordon(operator, "GPU-simulated-3"))
    assert asked(source.scene(operator)).cordoned == ()


def test_keys_are_made_and_revoked(source, operator):
    key = asked(source.make_key(operator, "civil/justice"))
    prefix = next(each.prefix for each in asked(source.scene(operator)).keys if key.startswith(each.prefix))
    asked(source.revoke(operator, prefix))
    assert prefix not in {each.prefix for each in asked(source.scene(operator)).keys}


@pytest.fixture
def second_person(platform):
    folder = platform.home / "secrets/operators"
    folder.mkdir(exist_ok=True)
    (folder / "ana.token").write_text("ana-has-a-token-of-her-own")
    return "ana-has-a-token-of-her-own"


def test_a_mode_is_proposed_by_one_person_and_approved_by_another(source, operator, second_person):
    asked(source.propose_mode(operator, "crisis", 4, "flood"))
    proposal = asked(source.scene(second_person)).approvals[0]
    assert (proposal.text, proposal.proposer) == ("crisis, 4 h: flood", "operator")
    with pytest.raises(ConsoleRefused):
        asked(source.approve(operator, proposal.id))
    asked(source.approve(second_person, proposal.id))
    scene = asked(source.scene(operator))
    assert scene.approvals == ()
    assert scene.declaration is not None
    assert scene.declaration.approvers == ("ana", "operator")


def test_a_wrong_token_and_a_silent_control_plane_are_told_apart(source, operator):
    with pytest.raises(TokenRefused):
        asked(source.viewer("wrong"))
    with pytest.raises(ControlPlaneSilent):
        asked(HttpSource("http://127.0.0.1:9", SystemClock()).viewer(operator))


def _fields(wish):
    return {name: getattr(wish, name) for name in wish.__slots__}


def test_the_timeline_says_what_was_done_in_words_and_never_as_data(source, operator):
    whys = [why for entry in asked(source.scene(operator)).timeline for why in entry.whys]
    assert any(why.startswith("start group civil/justice:assistant") for why in whys)
    assert not any("{" in why for why in whys)
