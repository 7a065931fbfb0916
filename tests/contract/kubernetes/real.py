"""A real kube-apiserver over etcd, where KUBEBUILDER_ASSETS says that they are."""

from __future__ import annotations

import secrets
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

START_TIMEOUT_S = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RealApiServer:
    """Runs until closed. Pods have no controller and no service account here: the tests stand in for both."""

    def __init__(self, assets: Path, folder: Path) -> None:
        self.token = secrets.token_hex(16)
        self._folder = folder
        self._processes: list[subprocess.Popen] = []
        etcd, port = f"http://127.0.0.1:{free_port()}", free_port()
        self.url = f"https://127.0.0.1:{port}"
        self.ca_file = str(folder / "certificates" / "apiserver.crt")
        self._run(assets / "etcd", "--data-dir", str(folder / "etcd"), "--listen-client-urls", etcd,
                  "--advertise-client-urls", etcd, "--listen-peer-urls", f"http://127.0.0.1:{free_port()}",
                  "--unsafe-no-fsync")  # fmt: skip
        key = folder / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        (folder / "tokens.csv").write_text(f'{self.token},tests,tests,"system:masters"\n')
        self._run(assets / "kube-apiserver", "--etcd-servers", etcd, "--secure-port", str(port),
                  "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
                  "--cert-dir", str(folder / "certificates"), "--token-auth-file", str(folder / "tokens.csv"),
                  "--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.0.0.0/24",
                  "--service-account-issuer", self.url, "--service-account-key-file", str(key),
                  "--service-account-signing-key-file", str(key), "--allow-privileged=true",
                  "--disable-admission-plugins", "ServiceAccount", "--watch-cache=true")  # fmt: skip
        self._await_ready()

    def _run(self, program: Path, *arguments: str) -> None:
        log = (self._folder / f"{program.name}.log").open("w")
        self._processes.append(subprocess.Popen([str(program), *arguments], stdout=log, stderr=log))

    def _await_ready(self) -> None:
        request = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.token}"})
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            try:
                context = ssl.create_default_context(cafile=self.ca_file)
                if urllib.request.urlopen(request, context=context, timeout=5).status == 200:
                    return
            except OSError:
                time.sleep(0.5)  # noqa: TID251 - a real server is waited for
        raise TimeoutError((self._folder / "kube-apiserver.log").read_text()[-2000:])

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(20)
