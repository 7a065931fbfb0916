"""Whatever a request that fits the published schema holds, the answer is one that the API has."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core import NotSet

from cluster.api.problems import STATUS_OF
from tests.cluster.api.platform import OPERATOR, Platform, running

EXAMPLES = 6
FOREVER = "/v1/events/watch"


@pytest.fixture(scope="module")
def generous(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return running(tmp_path_factory.mktemp("home"), requests_per_minute=1_000_000)


CALM = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


def test_every_answer_is_one_that_is_documented(generous: Platform) -> None:
    described = schemathesis.openapi.from_dict(generous.client.get("/openapi.json").json()).exclude(path=FOREVER)
    tried = 0
    for found in described.get_all_operations():

        @CALM
        @given(case=found.ok().as_strategy())
        def hold(case: schemathesis.Case) -> None:
            check(generous, case)

        hold()
        tried += 1
    assert tried > 20


def check(platform: Platform, case: schemathesis.Case) -> None:
    """Fail unless the answer is a success or a problem with a code of ours."""
    given = {name: str(value) for name, value in (case.headers or {}).items()}
    headers = {name: value for name, value in given.items() if value.isascii() and value.isprintable()}
    headers |= {"Authorization": f"Bearer {OPERATOR}"}
    body = {} if isinstance(case.body, NotSet) else {"json": case.body}
    try:
        response = platform.client.request(
            case.method, case.formatted_path, params=dict(case.query or {}), headers=headers, **body
        )
    except (UnicodeError, httpx.InvalidURL):
        return  # no client can send it
    assert response.status_code != 500, f"{case.method} {case.formatted_path}: {response.text}"
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json", response.text
        assert response.json()["code"] in STATUS_OF


def test_nothing_was_left_behind_that_breaks_the_next_turn(generous: Platform) -> None:
    generous.turns(2)
    assert generous.call("GET", "/readyz").status_code == 200
