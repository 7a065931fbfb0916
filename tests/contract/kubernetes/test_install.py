"""One helm command installs the platform, a second one upgrades it, and what the running platform wrote stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kubernetes.api import Api
from cluster.kubernetes.kinds import FENCING, RAY_SERVICES, Kind
from cluster.kubernetes.refusals import Absent
from tests.contract.apiserver.server import FakeApiServer
from tests.helm.chart import CHART
from tests.kubernetes_tools import run, tool

from .conftest import Served, install, make_namespace, monitoring_crds, ray_crds, start_real, until_described

SECRETS = Kind("", "v1", "secrets", "Secret")
DEPLOYMENTS = Kind("apps", "v1", "deployments", "Deployment")
CRDS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)


class Site:
    """A cluster with KubeRay's and the Prometheus operator's definitions, and helm pointed at it."""

    def __init__(self, tmp_path: Path, served: Served) -> None:
        self.api: Api = served.api()
        definitions = ray_crds() + monitoring_crds()
        install(self.api, definitions)
        if served.fake is None:
            until_described(served, definitions)
        make_namespace(self.api, "partage")
        self._home = tmp_path
        trusted = {"certificate-authority": served.ca_file} if served.ca_file else {}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": served.url} | trusted}],
            "users": [{"name": "u", "user": {"token": served.token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))

    def helm(self, *arguments: str) -> Any:
        flags = ("--kubeconfig", str(self._home / "kubeconfig"), "-n", "partage")
        return run(tool("helm"), *arguments, *flags, home=self._home)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real_cluster)])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Yield an empty cluster: without a controller manager namespaces never end, so each test has its own."""
    server = FakeApiServer() if request.param == "fake" else start_real(tmp_path)
    served = Served.of(server)
    yield Site(tmp_path, served)
    server.close()


def test_one_command_installs_it_all(site: Site) -> None:
    done = site.helm("install", "partage", str(CHART))
    assert done.returncode == 0, done.stderr
    assert "partage 0.1.0 is installed: civil=partage-civil,defence=partage-defence" in done.stdout
    assert site.api.get(DEPLOYMENTS, "partage", "partage-control-plane")["spec"]["replicas"] == 2
    for domain in ("civil", "defence"):
        assert site.api.get(RAY_SERVICES, f"partage-{domain}", domain)
    for name in ("claims", "tenants", "nodedevices"):
        assert site.api.get(CRDS, None, f"{name}.partage.lu")


def test_an_upgrade_keeps_the_tokens_and_what_the_platform_wrote(site: Site) -> None:
    assert site.helm("install", "partage", str(CHART)).returncode == 0
    tokens = site.api.get(SECRETS, "partage", "partage-secrets")["data"]
    written = {
        "metadata": {"name": "civil", "annotations": {FENCING: "7"}},
        "spec": {"serveConfigV2": "applications: [ours]\n"},
    }
    site.api.apply(RAY_SERVICES, "partage-civil", written)
    done = site.helm("upgrade", "partage", str(CHART), "--set", "controlPlane.tickMs=2000")
    assert done.returncode == 0, done.stderr
    assert site.api.get(SECRETS, "partage", "partage-secrets")["data"] == tokens
    service = site.api.get(RAY_SERVICES, "partage-civil", "civil")
    assert service["spec"]["serveConfigV2"] == "applications: [ours]\n"
    assert service["metadata"]["annotations"][FENCING] == "7"


def test_removing_it_leaves_tokens_and_claims(site: Site) -> None:
    assert site.helm("install", "partage", str(CHART)).returncode == 0
    done = site.helm("uninstall", "partage")
    assert done.returncode == 0, done.stderr
    with pytest.raises(Absent):
        site.api.get(DEPLOYMENTS, "partage", "partage-control-plane")
    assert site.api.get(SECRETS, "partage", "partage-secrets")
    assert site.api.get(CRDS, None, "claims.partage.lu")
