"""Pushing dashboards to a Grafana, over real HTTP, with the library that we ship."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli.dashboards import app
from cluster.dashboards.annotate import of_mode, publish
from cluster.dashboards.catalogue import BOARDS, FOLDER_UID
from cluster.dashboards.chart import write_files
from cluster.dashboards.client import connect
from cluster.dashboards.push import Change, compare, export, push
from cluster.dashboards.refusals import (
    AddressInvalid,
    DataSourceMissing,
    GrafanaRefused,
    GrafanaUnauthorised,
    GrafanaUnreachable,
    GrafanaUnreadable,
    TokenUnusable,
)
from policies.model.policy import ModeDeclaration, OperatingMode
from tests.cluster.dashboards import fake_grafana


def changes(differences):
    return {difference.change for difference in differences}


def test_first_push_creates_every_dashboard_in_our_folder(grafana, token_file):
    state, url = grafana
    assert changes(push(connect(url, token_file), datasource="Prometheus")) == {Change.CREATE}
    assert set(state.dashboards) == set(BOARDS)
    assert {stored["meta"]["folderUid"] for stored in state.dashboards.values()} == {FOLDER_UID}


def test_second_push_writes_nothing(grafana, token_file):
    state, url = grafana
    push(connect(url, token_file), datasource="Prometheus")
    before = state.writes
    assert changes(push(connect(url, token_file), datasource="Prometheus")) == {Change.SAME}
    assert state.writes == before


def test_a_hand_made_change_is_shown_by_diff_and_mended_by_push(grafana, token_file):
    state, url = grafana
    client = connect(url, token_file)
    push(client, datasource="Prometheus")
    state.dashboards["partage-shares"]["dashboard"]["title"] = "Changed by hand"
    changed = [each for each in compare(client, datasource="Prometheus") if each.change is not Change.SAME]
    assert [each.uid for each in changed] == ["partage-shares"]
    assert any(line.startswith("-") and "Changed by hand" in line for line in changed[0].lines())
    push(client, datasource="Prometheus")
    assert state.dashboards["partage-shares"]["dashboard"]["title"] == BOARDS["partage-shares"].title


def test_a_dashboard_dragged_to_another_folder_comes_back(grafana, token_file):
    state, url = grafana
    client = connect(url, token_file)
    push(client, datasource="Prometheus")
    state.dashboards["partage-energy"]["meta"]["folderUid"] = "elsewhere"
    assert Change.MOVE in changes(push(client, datasource="Prometheus"))
    assert state.dashboards["partage-energy"]["meta"]["folderUid"] == FOLDER_UID


def test_panels_point_at_the_data_source_that_was_named(grafana, token_file):
    state, url = grafana
    state.datasources = {"Metrics of the cloud": {"id": 7, "uid": "m/1", "name": "Metrics of the cloud"}}
    push(connect(url, token_file), datasource="Metrics of the cloud")
    variable = state.dashboards["partage-shares"]["dashboard"]["templating"]["list"][0]
    assert variable["current"]["value"] == "m/1"


def test_an_unknown_data_source_changes_nothing(grafana, token_file):
    state, url = grafana
    with pytest.raises(DataSourceMissing, match="no data source named 'Typo'"):
        push(connect(url, token_file), datasource="Typo")
    assert state.writes == 0


def test_grafana_below_a_path_is_found(token_file):
    with fake_grafana.running(prefix="/grafana") as (state, url):
        push(connect(url + "/", token_file), datasource="Prometheus")
        assert set(state.dashboards) == set(BOARDS)


def test_a_wrong_token_is_named_as_such(grafana, tmp_path):
    wrong = tmp_path / "token"
    wrong.write_text("glsa_wrong")
    with pytest.raises(GrafanaUnauthorised, match="make a new one"):
        push(connect(grafana[1], wrong), datasource="Prometheus")


def test_a_viewers_token_is_told_which_role_it_needs(grafana, tmp_path):
    viewer = tmp_path / "token"
    viewer.write_text(fake_grafana.VIEWER)
    with pytest.raises(GrafanaUnauthorised, match="Editor role"):
        push(connect(grafana[1], viewer), datasource="Prometheus")


def test_a_grafana_that_is_down_is_named_with_its_address(token_file):
    with fake_grafana.running() as (_state, url):
        pass
    with pytest.raises(GrafanaUnreachable, match=r"127\.0\.0\.1.*does not answer"):
        push(connect(url, token_file), datasource="Prometheus")


@pytest.mark.parametrize(
    ("fault", "refusal"),
    [
        ((502, "text/html", "<h1>Bad gateway</h1>"), GrafanaRefused),
        ((500, "application/json", '{"message": "database is locked"}'), GrafanaRefused),
        ((412, "application/json", '{"message": "changed", "status": "version-mismatch"}'), GrafanaRefused),
        ((404, "text/html", "message: no such page"), GrafanaUnreadable),
        ((400, "application/json", '["message"]'), GrafanaUnreadable),
        ((200, "text/html", "<html>please log in</html>"), GrafanaUnreadable),
        ((200, "application/json", ""), GrafanaUnreadable),
        ((200, "application/json", "[]"), GrafanaUnreadable),
        ((200, "application/json", '{"uid": 7}'), GrafanaUnreadable),
    ],
)
def test_odd_answers_become_sentences(grafana, token_file, fault, refusal):
    state, url = grafana
    state.fault = fault
    with pytest.raises(refusal) as caught:
        push(connect(url, token_file), datasource="Prometheus")
    assert fake_grafana.EDITOR not in str(caught.value)


def test_a_push_that_broke_part_of_the_way_goes_on_from_there(grafana, token_file):
    state, url = grafana
    client = connect(url, token_file)
    push(client, datasource="Prometheus")
    del state.dashboards["partage-energy"]
    assert [each.change for each in push(client, datasource="Prometheus")].count(Change.CREATE) == 1


@pytest.mark.parametrize("content", ["", "two words", "naïve"])
def test_a_token_file_that_holds_no_token_is_refused(tmp_path, content):
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TokenUnusable):
        connect("http://127.0.0.1:1", path)


def test_a_missing_token_file_is_named(tmp_path):
    with pytest.raises(TokenUnusable, match="missing"):
        connect("http://127.0.0.1:1", tmp_path / "missing")


@pytest.mark.parametrize("address", ["grafana:3000", "ftp://grafana", "http://", "http://g/?orgId=1"])
def test_an_address_that_is_none_is_refused(address, token_file):
    with pytest.raises(AddressInvalid):
        connect(address, token_file)


def test_a_mode_is_marked_once_however_often_it_is_published(grafana, token_file):
    state, url = grafana
    client = connect(url, token_file)
    mode = ModeDeclaration(
        mode=OperatingMode.CRISIS,
        declared_at_ms=1_000,
        expires_at_ms=61_000,
        approvers=("ana", "luc"),
        reason="flood",
    )
    assert publish(client, [of_mode(mode)]) == 1
    assert publish(client, [of_mode(mode)]) == 0
    assert state.annotations[0]["text"] == "Mode crisis declared by ana and luc: flood"
    assert (state.annotations[0]["time"], state.annotations[0]["timeEnd"]) == (1_000, 61_000)


def test_export_writes_the_same_bytes_each_time(tmp_path):
    first = [path.read_bytes() for path in export(tmp_path / "a", datasource="Prometheus")]
    second = [path.read_bytes() for path in export(tmp_path / "b", datasource="Prometheus")]
    assert first == second
    assert {json.loads(each)["uid"] for each in first} == set(BOARDS)


def test_the_command_line_says_what_it_did_and_diff_exits_one_only_with_differences(grafana, token_file):
    _state, url = grafana
    where = ["--grafana", url, "--token-file", str(token_file)]
    run = CliRunner().invoke
    assert run(app, ["diff", *where]).exit_code == 1
    pushed = run(app, ["push", *where])
    assert (pushed.exit_code, pushed.stdout.count("created")) == (0, len(BOARDS))
    assert run(app, ["diff", *where]).exit_code == 0


def test_the_command_line_ends_with_seven_when_grafana_is_down(token_file):
    with fake_grafana.running() as (_state, url):
        pass
    result = CliRunner().invoke(app, ["push", "--grafana", url, "--token-file", str(token_file)])
    assert result.exit_code == 7
    assert "grafana_unreachable" in result.output


def test_the_chart_ships_the_dashboards_of_the_code(tmp_path):
    shipped = Path(__file__).parents[3] / "helm/partage/files"
    write_files(tmp_path)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*"))
    assert len(written) > len(BOARDS)
    for path in written:
        assert (tmp_path / path).read_text() == (shipped / path).read_text(), f"{path}: run `make chart`"
