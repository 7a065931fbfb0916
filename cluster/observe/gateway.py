"""What a domain's gateway reports of its traffic."""

from __future__ import annotations

import httpx
from pydantic import ValidationError

from policies.model.codec import from_json
from policies.model.routing import GatewayLoad

LOAD = "/-/partage/load"


class LoadUnreadable(Exception):
    """A gateway did not report its load."""

    code = "load_unreadable"

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(url, cause)
        self.url, self.cause = url, cause

    def __str__(self) -> str:
        return f"the gateway at {self.url} did not report its load: {self.cause}"


class GatewayClient:
    """Asks one gateway for its load, with the domain's control token."""

    def __init__(self, url: str, control_token: str, timeout_s: float) -> None:
        self._url = url
        headers = {"Authorization": f"Bearer {control_token}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, trust_env=False)

    def load(self) -> GatewayLoad:
        """Return the load now. Raises ``LoadUnreadable``."""
        try:
            answer = self._client.get(LOAD)
        except httpx.TimeoutException as error:
            raise LoadUnreadable(self._url, "timeout") from error
        except httpx.HTTPError as error:
            raise LoadUnreadable(self._url, "unreachable") from error
        if not answer.is_success:
            raise LoadUnreadable(self._url, f"http_{answer.status_code}")
        try:
            return from_json(GatewayLoad, answer.content)
        except ValidationError as error:
            raise LoadUnreadable(self._url, "not_understood") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
