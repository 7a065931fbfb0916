"""The console of this machine's platform, as a process beside the control plane."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Mapping

from cluster.embedded.nodes import Machine
from cluster.embedded.processes import ProcessRecord, ProcessSpec, start
from cluster.ports import Clock
from cluster.settings import Settings

NAME = "console"
CALL_TIMEOUT_S = 5.0


def start_console(here: Machine, clock: Clock) -> ProcessRecord | None:
    """Start the console unless it runs, and return its record; None where the settings ask for none."""
    settings = here.settings
    if not settings.console_port:
        return None
    arguments = ("--url", settings.api_url, "--host", settings.api_host, "--port", str(settings.console_port))
    spec = ProcessSpec(name=NAME, module="cluster.console.serve", arguments=arguments, ports=(settings.console_port,))
    return start(here.processes, spec, _environment(), clock)


def invitation(settings: Settings) -> str:
    """Return an address that lets one browser into the running console, once, as this machine's operator.

    Empty while no console answers.
    """
    return ticket(settings.console_url, settings.operator_token.read_text(encoding="ascii").strip())


def ticket(url: str, token: str) -> str:
    """Return an address that lets one browser in with the token, once; empty if no console answers there."""
    parsed = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parsed.hostname or "", parsed.port, timeout=CALL_TIMEOUT_S)
    try:
        connection.request("POST", "/tickets", None, {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        body = response.read()
        return url + json.loads(body)["path"] if response.status == http.client.CREATED else ""
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return ""
    finally:
        connection.close()


def _environment() -> Mapping[str, str]:
    # Pages are drawn and dropped all day: freed memory shall go back to the system, not stay in each thread's pool.
    return {"MALLOC_ARENA_MAX": "2"}
