"""Every decision that moves something, and every mode, is marked once on the time axis."""

import pytest
import yaml

from cluster.dashboards.annotate import publish
from cluster.dashboards.client import connect
from cluster.dashboards.history import marks
from tests import simulated_platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with simulated_platform.running(tmp_path_factory.mktemp("home")) as found:
        client, documents = found.client(), simulated_platform.PROFILES
        policy = yaml.safe_load((documents / "default.yaml").read_text())["spec"]
        client.call("PUT", "/v1/policy", body=policy, headers={"If-None-Match": "*"})
        claim = next(yaml.safe_load_all((documents / "claims.yaml").read_text()))["spec"]
        client.call("PUT", f"/v1/claims/{claim['id']}", body=claim, headers={"If-None-Match": "*"})
        found.until(lambda: any(group["routed"] for group in client.items("/v1/groups")))
        yield found


def test_the_record_of_the_control_plane_becomes_marks_once(platform, grafana, token_file):
    state, url = grafana
    found, newest = marks(platform.client())
    assert newest > 0
    assert publish(connect(url, token_file), found) == len(found) > 0
    assert publish(connect(url, token_file), marks(platform.client())[0]) == 0
    assert any("start worker" in mark["text"] for mark in state.annotations)
    assert all("partage" in mark["tags"] for mark in state.annotations)


def test_what_was_marked_before_is_not_read_again(platform):
    _, newest = marks(platform.client())
    assert marks(platform.client(), after=newest) == ((), newest)
