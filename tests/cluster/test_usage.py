"""What tenants used is summed from the gateways' ledgers, each line once."""

import json

from cluster.usage import DAYS_SHOWN, UsageBook


def line(tenant="a/b", model="m", **fields):
    known = {"prompt_tokens": 10, "completion_tokens": 5, "gpu_ms": 200}
    return json.dumps({"tenant": tenant, "model": model, **known, **fields}) + "\n"


def book(tmp_path):
    (tmp_path / "civil").mkdir()
    return UsageBook(tmp_path), tmp_path / "civil" / "2026-11-03.aa.jsonl"


def test_requests_of_one_day_and_model_are_one_row(tmp_path):
    usage, file = book(tmp_path)
    file.write_text(line() + line(gpu_ms=100) + line(tenant="a/c"))
    first, second = usage.rows()
    assert (first.tenant, first.day, first.requests, first.prompt_tokens, first.gpu_ms) == (
        "a/b", "2026-11-03", 2, 20, 300
    )  # fmt: skip
    assert second.tenant == "a/c"


def test_only_what_was_added_is_read_again_and_a_line_in_the_making_waits(tmp_path):
    usage, file = book(tmp_path)
    file.write_text(line() + line()[:20])
    assert usage.rows()[0].requests == 1
    assert usage.rows()[0].requests == 1
    file.write_text(line() + line())
    assert usage.rows()[0].requests == 2


def test_what_is_not_a_record_is_passed_over(tmp_path):
    usage, file = book(tmp_path)
    file.write_text("not json\n[1]\n" + line())
    assert [row.requests for row in usage.rows()] == [1]


def test_no_ledger_is_no_use_and_old_days_are_left_to_the_ledgers(tmp_path):
    usage, file = book(tmp_path)
    assert usage.rows() == ()
    for day in range(1, DAYS_SHOWN + 1):
        (file.parent / f"2026-10-{day:02}.aa.jsonl").write_text(line())
    file.write_text(line())
    days = {row.day for row in usage.rows()}
    assert len(days) == DAYS_SHOWN
    assert "2026-10-01" not in days
