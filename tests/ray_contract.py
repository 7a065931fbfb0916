"""What this project relies on of Ray's dashboard: true of the fake in unit tests, of a real head end to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster.ray_rest import RayDashboard, RayUnreadable

Settle = Callable[[Callable[[], bool]], None]
"""Returns once the condition holds; the fake lets its world come to rest, a real one is waited for."""


def engine(name: str, replicas: int, **options: Any) -> dict[str, Any]:
    """Return a small application with the synthetic engine."""
    return {
        "name": name,
        "route_prefix": None,
        "import_path": "serving.apps.engine:build",
        "args": {"group": name, "model": "m", "variant": "v", "engine": "synthetic"},
        "external_scaler_enabled": True,
        "deployments": [
            {
                "name": "Engine",
                "num_replicas": replicas,
                "graceful_shutdown_wait_loop_s": 0.1,
                "ray_actor_options": {"num_cpus": 0.01, **options},
            }
        ],
    }


def put(dashboard: RayDashboard, port: int, *apps: dict[str, Any]) -> None:
    """Put the applications, and only those."""
    http = {"host": "127.0.0.1", "port": port}
    dashboard.put_applications({"proxy_location": "HeadOnly", "http_options": http, "applications": list(apps)})


def holds_to_its_contract(dashboard: RayDashboard, port: int, settle: Settle) -> None:
    """Check everything; starts with no applications and leaves none."""
    _is_empty_before_the_first_put(dashboard)
    _runs_what_is_put(dashboard, port, settle)
    _returns_the_configuration_as_it_was_put(dashboard)
    _scales_without_restart(dashboard, settle)
    _refuses_unknown_groups(dashboard)
    _deletes_what_is_left_out(dashboard, port, settle)


def _running(dashboard: RayDashboard, name: str) -> int:
    app = dashboard.applications().get(name)
    return app.running if app else -1


def _is_empty_before_the_first_put(dashboard: RayDashboard) -> None:
    assert dict(dashboard.applications()) == {}


def _runs_what_is_put(dashboard: RayDashboard, port: int, settle: Settle) -> None:
    put(dashboard, port, engine("one", 1), engine("two", 1))
    settle(lambda: _running(dashboard, "one") == 1 and _running(dashboard, "two") == 1)


def _returns_the_configuration_as_it_was_put(dashboard: RayDashboard) -> None:
    app = dashboard.applications()["one"]
    assert app.arguments["engine"] == "synthetic"
    assert app.config["deployments"][0]["ray_actor_options"]["num_cpus"] == 0.01
    assert app.target == 1


def _scales_without_restart(dashboard: RayDashboard, settle: Settle) -> None:
    dashboard.scale("one", "Engine", 0)
    settle(lambda: _running(dashboard, "one") == 0)
    assert dashboard.applications()["one"].target == 0
    assert _running(dashboard, "two") == 1


def _refuses_unknown_groups(dashboard: RayDashboard) -> None:
    with pytest.raises(RayUnreadable) as refusal:
        dashboard.scale("nobody", "Engine", 1)
    assert refusal.value.cause == "http_404"


def _deletes_what_is_left_out(dashboard: RayDashboard, port: int, settle: Settle) -> None:
    put(dashboard, port, engine("two", 1))
    settle(lambda: "one" not in dashboard.applications())
    assert _running(dashboard, "two") == 1
    put(dashboard, port)
    settle(lambda: not dashboard.applications())
