"""Energy that telemetry metered for a claim becomes energy of its tenants, models and requests."""

from __future__ import annotations

import json
from pathlib import Path

from cluster.observe.telemetry.energy_book import EnergyBook
from cluster.observe.telemetry.meters import Total
from serving.energy import metered, shared_out
from serving.ledger import Ledger
from tests.serving.fakes import FakeClock
from tests.serving.test_cli import partage, record

CLAIM, NOON_MS = "civil/tax:chat", 1_795_435_200_000
MINUTE_MS = 60_000


def totals(mj: int) -> list[tuple[tuple[str, str], Total]]:
    return [(("civil/tax", CLAIM), Total(energy_mj=mj))]


def test_what_was_metered_is_added_up_by_day_through_restarts(tmp_path: Path) -> None:
    clock = FakeClock(NOON_MS)
    for _ in range(2):  # the meters of a new control plane begin at nothing
        book = EnergyBook(tmp_path, clock)
        for mj in (1_000, 5_000):
            clock.now_ms += MINUTE_MS
            book.note(lambda mj=mj: totals(mj))
        book.note(lambda: totals(9_999))
    assert metered(tmp_path, since="2026-11", until="2026-11") == {CLAIM: 10_000}
    assert metered(tmp_path, since="2026-12", until="2026-12") == {}


def test_each_request_gets_its_part_by_the_device_time_that_it_held() -> None:
    records = [record(claim=CLAIM, gpu_ms=300), record(claim=CLAIM, gpu_ms=100), record(claim="other", gpu_ms=5)]
    assert [each.energy_mj for each in shared_out(records, {CLAIM: 8_000})] == [6_000, 2_000, None]
    assert [each.energy_mj for each in shared_out([record(claim=CLAIM, gpu_ms=0)], {CLAIM: 8_000})] == [0]


def test_the_report_shows_watt_hours_and_says_where_nothing_was_metered(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger" / "civil")
    ledger.append(record(claim=CLAIM, gpu_ms=100))
    ledger.append(record(claim="civil/x:chat", tenant="civil/x", gpu_ms=100))
    ledger.flush()
    (file,) = (tmp_path / "ledger" / "civil").iterdir()
    assert "energy" not in file.read_text()
    (tmp_path / "energy").mkdir()
    (tmp_path / "energy" / "2026-11-23.json").write_text(json.dumps({CLAIM: 7_200_000}))
    _, said = partage("usage", "show", "--month", "2026-11", "-o", "json", home=tmp_path)
    assert [(row["tenant"], row["energy_wh"]) for row in json.loads(said)] == [("civil/tax", 2.0), ("civil/x", None)]
    assert "not known" in partage("usage", "show", "--month", "2026-11", home=tmp_path)[1]
    page = partage("usage", "show", "--month", "2026-11", "-o", "html", home=tmp_path)[1]
    assert "energy, Wh" in page
    assert "<td>2.0</td>" in page
    assert "None" not in page
