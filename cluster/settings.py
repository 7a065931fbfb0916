"""Everything that can be set, with its default and its limit. The only reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from policies.model.units import SecurityDomain

PREFIX = "PARTAGE_"


class SettingInvalid(Exception):
    """A variable of the environment holds a value that the setting cannot take."""

    code = "setting_invalid"

    def __init__(self, variable: str, value: str, needs: str) -> None:
        super().__init__(variable, value, needs)
        self.variable, self.value, self.needs = variable, value, needs

    def __str__(self) -> str:
        return f"{self.variable}={self.value!r} is not {self.needs}; correct it or unset it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One value per setting. Each field is also read from ``PARTAGE_<FIELD>``."""

    home: Path
    """State that must survive: journal, secrets, logs, process records."""
    cache: Path
    """Files that can be made again: weights."""
    config: Path
    """What a person sets for the command line: contexts."""

    api_host: str = "127.0.0.1"
    api_port: int = 8700
    gateway_port: int = 8701
    """Of the first domain; the second has the next."""
    console_port: int = 8703
    """The console in the browser; 0: `up` starts none."""
    dashboard_port: int = 8711
    """Ray dashboard of the first domain; the second has the next."""
    ray_port: int = 8721
    """Ray control service of the first domain; the second has the next."""

    tick_ms: int = 400
    """Pause between two turns of the loop; a changed claim ends it early."""
    simulated_devices: int = 4
    """Devices to simulate where NVML shows none."""
    metric_names: str = "own_and_dcgm"
    """``own`` where DCGM's exporter runs beside us: its names would be there twice."""
    agent_token_file: str = ""
    """File with the token under which node agents report telemetry; empty: they cannot."""
    simulated_scrub_ms: int = 300
    """What a simulated scrub takes."""
    ready_timeout_ms: int = 240_000
    """Longest wait of ``up`` for the platform."""
    stop_timeout_ms: int = 20_000
    """Longest wait of ``down`` for one process before it is killed."""

    body_bytes: int = 1_048_576
    """Largest request body of the API."""
    json_depth: int = 32
    """Deepest nesting of a JSON body."""
    claims_per_tenant: int = 10_000
    keys_per_tenant: int = 100
    requests_per_minute: int = 6_000
    """Per caller, at the control API."""
    watchers: int = 64
    """Most event streams open at once."""
    otlp_url: str = ""
    """OpenTelemetry collector that takes OTLP over HTTP, such as ``http://127.0.0.1:4318``; empty: no traces."""
    idempotency_hours: int = 24
    """How long the answer to an Idempotency-Key is kept."""

    busy_timeout_ms: int = 5_000
    """Longest wait for the journal's lock."""
    decisions_kept: int = 2_000
    """Decisions kept with their digest."""
    snapshots_kept: int = 500
    """Of those, the newest are kept with the full snapshot, for replay."""
    history_bytes: int = 536_870_912
    """Most bytes of kept decisions, whatever their number."""

    identity: str = ""
    """Name of this process among several control planes; on Kubernetes the pod's."""
    namespace: str = "partage"
    """On Kubernetes, where the control plane runs and its lease lies."""
    domain_namespaces: str = "defence=partage-defence,civil=partage-civil"
    """On Kubernetes, the namespace of each domain."""
    database_file: str = ""
    """File with a PostgreSQL connection string; empty: the journal is a file below ``home``."""
    kubeconfig: str = ""
    """File that says how to reach the Kubernetes cluster; empty: as the pod's service account."""
    lease_ms: int = 15_000
    """A leader that is silent this long is replaced."""
    spare_pods: int = 1
    """Worker pods per group kept waiting without a node: they hold no device and save the operator's time."""

    @property
    def secrets(self) -> Path:
        """Folder of the tokens; mode 0700."""
        return self.home / "secrets"

    @property
    def logs(self) -> Path:
        """Folder of the logs of every process that we start."""
        return self.home / "logs"

    @property
    def journal(self) -> Path:
        """File of the journal."""
        return self.home / "journal.sqlite"

    @property
    def api_url(self) -> str:
        """Base address of the control API."""
        return f"http://{self.api_host}:{self.api_port}"

    @property
    def console_url(self) -> str:
        """Address of the console that `up` starts."""
        return f"http://{self.api_host}:{self.console_port}"

    @property
    def operator_token(self) -> Path:
        """File of the operator's token; mode 0600."""
        return self.secrets / "operator.token"

    def gateway_url(self, domain: SecurityDomain) -> str:
        """Return the address that the domain's tenants call."""
        return f"http://{self.api_host}:{self.gateway_port + _ordinal(domain)}"

    def dashboard_url(self, domain: SecurityDomain) -> str:
        """Return the address of the domain's Ray dashboard, which carries Serve's REST API."""
        return f"http://{self.api_host}:{self.dashboard_port + _ordinal(domain)}"

    def ray_address(self, domain: SecurityDomain) -> str:
        """Return the address of the domain's Ray control service."""
        return f"{self.api_host}:{self.ray_port + _ordinal(domain)}"

    def secret(self, domain: SecurityDomain, purpose: str) -> Path:
        """Return the file of one of the domain's secrets: ``ray`` token, gateway ``control`` token, key ``pepper``."""
        return self.secrets / f"{domain}.{purpose}"


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that the environment asks for, defaults elsewhere. Raises ``SettingInvalid``."""
    source = os.environ if environment is None else environment
    values: dict[str, object] = {
        "home": _folder(source, "XDG_STATE_HOME", ".local/state"),
        "cache": _folder(source, "XDG_CACHE_HOME", ".cache"),
        "config": _folder(source, "XDG_CONFIG_HOME", ".config"),
    }
    for field in fields(Settings):
        variable = PREFIX + field.name.upper()
        if variable in source:
            values[field.name] = _parse(variable, source[variable], str(field.type))
    return Settings(**values)  # type: ignore[arg-type]  # each value was parsed by its field's type


def base_environment() -> dict[str, str]:
    """Return a copy of the environment for child processes; callers add to it."""
    return dict(os.environ)


def is_plain_terminal(environment: Mapping[str, str] | None = None) -> bool:
    """Return whether colour and animation are unwanted: NO_COLOR set and not empty, or TERM=dumb."""
    source = os.environ if environment is None else environment
    return bool(source.get("NO_COLOR")) or source.get("TERM") == "dumb"


def _ordinal(domain: SecurityDomain) -> int:
    return list(SecurityDomain).index(domain)


def _folder(source: Mapping[str, str], xdg: str, fallback: str) -> Path:
    base = source.get(xdg, "")
    return (Path(base) if base.startswith("/") else Path.home() / fallback) / "partage"


def _parse(variable: str, text: str, kind: str) -> object:
    if kind == "Path":
        if not text:
            raise SettingInvalid(variable, text, "a folder")
        return Path(text).expanduser().resolve()
    if kind == "int":
        if not text.isascii() or not text.isdigit():
            raise SettingInvalid(variable, text, "a whole number of 0 or more")
        return int(text)
    return text
