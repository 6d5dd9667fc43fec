"""The chapter's REST client, over `consona.rest.client.api_client`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from consona import blocking, errors
from consona.chapter.errors import APIError
from consona.chapter.exchange import one_or_many, plain_function, response_dict
from consona.chapter.narration import think
from consona.errors import ConfigurationError
from consona.resilience.policy import Policy
from consona.resilience.retry import Retry
from consona.rest.client.api_client import APIClient as Client
from consona.rest.client.api_client import ClientSettings
from consona.rest.client.authentication import APIKey, Basic, Bearer, Fetch, Pairs
from consona.rest.client.response import Response
from consona.telemetry.observer import Entry

__all__ = ["APIClient"]

RETRY_CONFIG: Final[Mapping[str, float]] = {"max_retries": 3, "backoff_factor": 2}


class APIClient:
    """Calls one HTTP API; each method waits for the answer.

    Args:
        base_url: What every endpoint is below: `https://api.example.com/v1`.
        default_headers: Headers of every request to it.
        timeout: Seconds for a whole call, its retries included; 30 where None.
        retry_config: `max_retries` (3) and `backoff_factor` (2): the wait before retry *n* is drawn between 0
            and `backoff_factor * 2**n` seconds. Only what is safe is sent again.
        keep_bodies: Whether `get_request_history` keeps JSON bodies too (what bears a secret's name is masked).

    Raises:
        ConfigurationError: The address is no http:// or https:// URL, or a setting is not possible.

    Example:
        >>> api = APIClient("https://api.example.com/v1", {"X-Shop": "7"})
        >>> api.get_success_rate()
        0.0
    """

    def __init__(
        self,
        base_url: str,
        default_headers: Mapping[str, str] | None = None,
        timeout: float | None = 30,
        retry_config: Mapping[str, float] | None = None,
        *,
        keep_bodies: bool = False,
    ) -> None:
        self.base_url = base_url
        self._credentials = _Credentials(default_headers or {})
        self._client = Client(
            base_url,
            auth=self._credentials,
            policy=_policy(timeout, retry_config),
            headers=default_headers,
            settings=ClientSettings(history="bodies" if keep_bodies else "headers"),
        )
        self._starting = threading.Lock()
        think("APIClient for", base_url)

    def add_auth_header(self, auth_type: str, credentials: Any, header_name: str = "X-API-Key") -> None:
        """Show with every request who is asking.

        Args:
            auth_type: `bearer`, `api_key` or `basic`.
            credentials: The token, the key, or a dict with `username` and `password`.
            header_name: The header that an API key goes into.

        Raises:
            ConfigurationError: There is no such type, or these credentials cannot be sent.
        """
        if auth_type == "bearer":
            self._credentials.add(Bearer(credentials))
        elif auth_type == "api_key":
            self._credentials.add(APIKey(credentials, header=header_name))
        elif auth_type == "basic":
            if not isinstance(credentials, Mapping) or not credentials.keys() >= {"username", "password"}:
                raise ConfigurationError("basic: the credentials are a dict with `username` and `password`.")
            self._credentials.add(Basic(credentials["username"], credentials["password"]))
        else:
            raise ConfigurationError(f"add_auth_header({auth_type!r}): there are bearer, api_key and basic.")
        think("Added credentials of the type", auth_type)

    def register_error_handler(self, status_code: int, handler_function: Callable[[dict[str, Any]], Any]) -> None:
        """Let a function take care of answers with this status, once the retries are over.

        It gets the answer as a dict. What it returns is what the call returns; None lets the error be raised.

        Raises:
            ConfigurationError: The status is not 400 to 599, or it is no plain function.
        """
        handler = plain_function(handler_function, "The error handler")

        async def handle(response: Response) -> Any:
            return await asyncio.to_thread(handler, response_dict(response))  # it may wait, or call the API itself

        self._client.on_status(status_code, handle)
        think("Registered an error handler for status", status_code)

    def make_request(
        self,
        method: str,
        endpoint: str,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send a request, `data` as JSON, and wait for its answer.

        Returns:
            A dict with `status_code`, `data` and `headers`; or what an error handler returned.

        Raises:
            APIError: The status is 400 or above, and no handler took care of it.
            ConnectError, ConnectionLost, DeadlineExceeded: There was no answer.
            ConfigurationError: The request is not possible, or the caller is inside a running event loop.
        """
        with self._starting:
            if not self._client.started:
                blocking.enter(self._client)
        think(method.upper(), endpoint)
        try:
            answer: Any = blocking.run(
                self._client.request(method.upper(), endpoint, json=data, headers=headers, params=params)
            )
        except errors.APIError as error:
            raise APIError.of(error) from error
        return response_dict(answer) if isinstance(answer, Response) else answer

    def get(
        self, endpoint: str, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Read. See `make_request`."""
        return self.make_request("GET", endpoint, None, headers, params)

    def post(self, endpoint: str, data: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Create. See `make_request`."""
        return self.make_request("POST", endpoint, data, headers)

    def put(self, endpoint: str, data: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Replace or change. See `make_request`."""
        return self.make_request("PUT", endpoint, data, headers)

    def delete(self, endpoint: str, headers: Mapping[str, str] | None = None) -> Any:
        """Remove. See `make_request`."""
        return self.make_request("DELETE", endpoint, None, headers)

    def get_request_history(self) -> list[dict[str, Any]]:
        """The last 100 calls, oldest first. What bears the name of a secret is masked."""
        return [_history_entry(entry) for entry in blocking.run(_history(self._client))]

    def get_success_rate(self) -> float:
        """How many of all calls succeeded (an answer below 400), in percent; 0.0 before the first."""
        return blocking.run(_success_rate(self._client)) * 100

    def close(self) -> None:
        """End its connections now; else that happens when the program ends. The next request opens it again."""
        blocking.run(self._client.stop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Credentials:
    """All credentials that were added: an `Authentication` of the real client."""

    def __init__(self, default_headers: Mapping[str, str]) -> None:
        self._taken = {name.lower() for name in default_headers}
        self._pairs: dict[str, tuple[str, str]] = {}

    def add(self, auth: Bearer | APIKey | Basic) -> None:
        for name, value in auth.fixed or ():
            if name.lower() in self._taken:
                raise ConfigurationError(f"The default headers have {name} already.", hint="Leave it out there.")
            self._pairs = {**self._pairs, name.lower(): (name, value)}

    async def headers(self, _fetch: Fetch) -> Pairs:
        return tuple(self._pairs.values())

    async def rejected(self, _headers: Pairs) -> bool:
        return False


def _policy(timeout: float | None, retry_config: Mapping[str, float] | None) -> Policy:
    config = {**RETRY_CONFIG, **(retry_config or {})}
    if unknown := sorted(config.keys() - RETRY_CONFIG.keys()):
        raise ConfigurationError(
            f"retry_config has no setting {', '.join(unknown)}.", hint=f"There are {' and '.join(RETRY_CONFIG)}."
        )
    try:
        retry = Retry(attempts=int(config["max_retries"]) + 1, backoff=config["backoff_factor"])
        return Policy(timeout=30 if timeout is None else timeout, retry=retry)
    except (TypeError, ValueError) as error:
        raise ConfigurationError("timeout, max_retries and backoff_factor are numbers.") from error


# Read in the event loop, where nothing changes meanwhile.


async def _history(client: Client) -> list[Entry]:
    return client.history


async def _success_rate(client: Client) -> float:
    return client.stats.success_rate


def _history_entry(entry: Entry) -> dict[str, Any]:
    kept = entry.attributes
    url = kept.get("url", "")
    answer = {
        "status_code": kept.get("status"),
        "data": kept.get("answer_body"),
        "headers": kept.get("answer_headers"),
    }
    return {
        "method": entry.operation,
        "url": url,
        "headers": kept.get("headers", {}),
        "data": kept.get("body"),
        "params": one_or_many(parse_qs(urlsplit(url).query, keep_blank_values=True)),
        "timestamp": entry.at - entry.duration,
        "response": answer if "status" in kept else None,
        "success": entry.success,
        "attempt": kept.get("attempts", 0),
        "error": entry.error or None,
    }
