import pytest

from tests.cluster.dashboards import fake_grafana


@pytest.fixture
def grafana():
    with fake_grafana.running() as running:
        yield running


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "grafana.token"
    path.write_text(fake_grafana.EDITOR + "\n")
    return path
