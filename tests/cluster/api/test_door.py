"""What comes through the door: nothing too large, too deep, unreadable or too often; every answer has a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.api.limits import nesting
from cluster.api.problems import STATUS_OF
from tests.cluster.api.platform import OPERATOR, Platform, running

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"[" * 10_000, 400),
        (b'{"tenant":' * 40 + b"1" + b"}" * 40, 400),
        (b'{"tenant": NaN}', 400),
        (b'{"tenant": Infinity}', 400),
        (b'{"tenant": "a", "tenant": "b"}', 400),
        (b'{"tenant": "\\ud800"}', 400),
        (b'{"tenant": "\xff"}', 400),
        (b'{"tenant": ', 400),
        (b"x" * 2_000_000, 413),
        (b'{"tenant": "civil/justice", "days": 1e400}', 422),
        (b'{"tenant": "civil/justice", "days": 1180591620717411303424}', 422),
        (b'{"tenant": "a\\u0000b"}', 404),
        (b"[]", 422),
        (b"", 422),
    ],
)
def test_a_body_that_is_no_good_is_refused_with_a_problem_and_no_stack_trace(
    platform: Platform, content: bytes, status: int
) -> None:
    response = platform.call("POST", "/v1/keys", content=content, headers=JSON)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] in STATUS_OF
    assert "Traceback" not in response.text


def test_a_compressed_body_is_refused(platform: Platform) -> None:
    response = platform.call("POST", "/v1/keys", content=b"x", headers={**JSON, "Content-Encoding": "gzip"})
    assert response.status_code == 415


def test_too_many_requests_are_answered_with_when_to_come_back(tmp_path: Path) -> None:
    platform = running(tmp_path, requests_per_minute=5)
    answers = [platform.call("GET", "/v1/whoami") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[0].headers["RateLimit"] == '"control";r=4;t=60'
    assert answers[0].headers["RateLimit-Policy"] == '"control";q=5;w=60'
    assert int(answers[-1].headers["Retry-After"]) > 0
    platform.clock.sleep_ms(61_000)
    assert platform.call("GET", "/v1/whoami").status_code == 200


def test_one_caller_s_flood_does_not_touch_another(tmp_path: Path) -> None:
    platform = running(tmp_path, requests_per_minute=5)
    key = platform.key("civil/justice")
    for _ in range(10):
        platform.call("GET", "/v1/whoami", key)
    assert platform.call("GET", "/v1/whoami", key).status_code == 429
    assert platform.call("GET", "/v1/whoami", OPERATOR).status_code == 200


def test_every_answer_carries_the_request_s_name(platform: Platform) -> None:
    assert platform.call("GET", "/livez", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traced = platform.call("GET", "/nowhere", headers={"traceparent": trace})
    assert traced.json()["request_id"] == "0af7651916cd43dd8448eb211c80319c"
    forged = platform.call("GET", "/livez", headers={"X-Request-ID": "a b\x1b[31m"})
    assert "\x1b" not in forged.headers["X-Request-ID"]


def test_unknown_paths_and_methods_are_problems_too(platform: Platform) -> None:
    assert platform.call("GET", "/v2/claims").json()["code"] == "not_found"
    assert platform.call("PATCH", "/v1/policy").json()["code"] == "method_not_allowed"


@pytest.mark.parametrize(("text", "depth"), [(b"", 0), (b"[]", 1), (b'["[[["]', 1), (b'{"a":[{"b":"\\"["}]}', 3)])
def test_nesting_counts_brackets_outside_of_strings(text: bytes, depth: int) -> None:
    assert nesting(text) == depth
