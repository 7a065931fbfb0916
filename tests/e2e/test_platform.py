"""The platform on this machine as its tenants and its operator meet it: the stock OpenAI client, a second `up`."""

from __future__ import annotations

from http import HTTPStatus

import httpx
import openai
import pytest

from cluster.embedded.control import operator
from cluster.embedded.jobs import MODULE as JOB
from cluster.embedded.platform import bring_up
from cluster.embedded.processes import records
from policies.model.units import TenantId
from tests.e2e.bench import MODEL, Running, listening_beyond_loopback, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TENANTS = ("civil/health", "civil/justice", "defence/command", "defence/cyber")


def test_up_makes_one_key_for_each_tenant_and_says_that_devices_are_simulated(platform: Running) -> None:
    assert tuple(platform.keys) == TENANTS
    assert platform.ready.simulated == any("SIMULATED" in line for line in platform.said)


@pytest.mark.parametrize("tenant", ["defence/cyber", "civil/justice", "civil/health"])
def test_the_stock_client_gets_answers_streamed_and_whole(platform: Running, tenant: str) -> None:
    client = platform.client(tenant)
    assert [model.id for model in client.models.list()] == [MODEL]
    asked = [{"role": "user", "content": "Name a colour."}]
    whole = client.chat.completions.create(model=MODEL, messages=asked, max_tokens=8)  # type: ignore[call-overload]  # plain dicts
    assert whole.choices[0].message.content
    assert whole.usage.completion_tokens > 0
    stream = client.chat.completions.create(model=MODEL, messages=asked, max_tokens=8, stream=True)  # type: ignore[call-overload]  # plain dicts
    assert sum(len(chunk.choices[0].delta.content or "") for chunk in stream if chunk.choices) > 0


def test_wrong_keys_and_unknown_models_are_refused_in_the_words_of_openai(platform: Running) -> None:
    for key in ("pk-nobody-knows-this-key", platform.keys[TenantId("civil/justice")]):
        with pytest.raises(openai.AuthenticationError) as refusal:
            platform.client("defence/cyber", key).models.list()
        assert refusal.value.status_code == 401
        assert refusal.value.body is not None
    with pytest.raises(openai.NotFoundError):
        platform.client("civil/justice").chat.completions.create(
            model="no-such-model", messages=[{"role": "user", "content": "Hello"}]
        )


def test_nothing_listens_for_other_machines_and_secrets_are_the_owners_alone(platform: Running) -> None:
    assert listening_beyond_loopback(platform.pids()) == []
    for file in platform.settings.secrets.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def test_the_console_lets_the_bearer_of_the_printed_address_in_once(platform: Running) -> None:
    address = platform.ready.console_url
    assert any(address in line for line in platform.said)
    first = httpx.get(address)
    assert first.status_code == HTTPStatus.SEE_OTHER
    assert "partage_session" in first.cookies
    second = httpx.get(address)
    assert second.headers["location"].endswith("login")
    assert httpx.post(f"{platform.settings.console_url}/tickets").status_code == HTTPStatus.UNAUTHORIZED


def test_a_job_runs_on_its_part_of_a_device_and_its_claim_ends_with_it(platform: Running) -> None:
    name, client = "civil/justice:greeting", operator(platform.settings)
    shape = {"flavors": [], "gpu_millis": 250}
    job = {"command": ["/bin/sh", "-c", "echo hello from $PARTAGE_DEVICES"]}
    wish = {"id": name, "tenant": "civil/justice", "kind": "job", "ladder": [shape], "job": job}
    client.call("PUT", f"/v1/claims/{name}", body=wish, headers={"If-None-Match": "*"})
    until(lambda: name not in {one["claim"]["id"] for one in client.items("/v1/claims")}, "the claim has ended")
    (end,) = [
        one for one in client.get("/v1/events", newest=True, subject=name)["items"] if one["kind"] == "job.succeeded"
    ]
    assert '"exit_code":0' in str(end["body"]).replace(" ", "").replace("'", '"')
    assert any(line.startswith("hello from GPU-") for line in client.get(f"/v1/claims/{name}/log")["lines"])
    until(lambda: not [one for one in records(platform.here.processes) if one.spec.module == JOB], "its place is free")


def test_a_second_up_finds_everything_running(platform: Running) -> None:
    before, said = {r.spec.name: r.pid for r in records(platform.here.processes)}, list[str]()
    again = bring_up(platform.settings, said.append)
    after = {record.spec.name: record.pid for record in records(platform.here.processes)}
    assert said[0].startswith("already running: ")
    assert dict(again.keys) == {}
    assert {name: after[name] for name in before} == before
