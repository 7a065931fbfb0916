"""What can go wrong between us and a Grafana: one class for each, with a whole sentence."""

from __future__ import annotations

from pathlib import Path

from cluster.refusals import Refusal

UNKNOWN_TOKEN = 401


class GrafanaUnreachable(Refusal):
    """No answer came."""

    code = "grafana_unreachable"

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(url, cause)
        self.url, self.cause = url, cause

    def __str__(self) -> str:
        return f"Grafana at {self.url} does not answer ({self.cause}); check the address and that it runs, then repeat"


class GrafanaUnauthorised(Refusal):
    """The token is wrong, expired, or may not do this."""

    code = "grafana_unauthorised"

    def __init__(self, url: str, status: int, asked: str) -> None:
        super().__init__(url, status, asked)
        self.url, self.status, self.asked = url, status, asked

    def __str__(self) -> str:
        cure = "make a new one" if self.status == UNKNOWN_TOKEN else "give its service account the Editor role"
        return f"Grafana at {self.url} refuses the token for {self.asked} (status {self.status}); {cure}"


class GrafanaRefused(Refusal):
    """Grafana understood and said no."""

    code = "grafana_refused"

    def __init__(self, asked: str, status: int, message: str) -> None:
        super().__init__(asked, status, message)
        self.asked, self.status, self.message = asked, status, message

    def __str__(self) -> str:
        return f"Grafana refuses {self.asked} (status {self.status}): {self.message}"


class GrafanaUnreadable(Refusal):
    """Something answered that is not Grafana's API."""

    code = "grafana_unreadable"

    def __init__(self, url: str, asked: str) -> None:
        super().__init__(url, asked)
        self.url, self.asked = url, asked

    def __str__(self) -> str:
        return (
            f"what answers at {self.url} for {self.asked} is not Grafana's API: a proxy or a login page? "
            "Give the address that `curl ADDRESS/api/health` answers"
        )


class DataSourceMissing(Refusal):
    """The named data source does not exist, and none may be guessed."""

    code = "data_source_missing"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"Grafana has no data source named {self.name!r}; create it, or name another with --datasource"


class TokenUnusable(Refusal):
    """The file of the token cannot be used."""

    code = "token_unusable"

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"the token file {self.path} {self.cause}; write the service account's token into it, mode 0600"


class AddressInvalid(Refusal):
    """The address of Grafana is not one."""

    code = "address_invalid"

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address

    def __str__(self) -> str:
        return f"{self.address!r} is not the address of a Grafana; write it like https://grafana.example:3000/path"
