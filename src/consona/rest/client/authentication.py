"""Who is asking: the credentials that an `APIClient` sends, to the origin of its base and to no other.

    APIClient("https://api.example.com", auth=Bearer(token))
    APIClient("https://api.example.com", auth=ClientCredentials("https://login.example.com/token", "shop", secret))

Anything with the two methods of `Authentication` can be handed in as `auth=`.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote_plus, urlencode

import msgspec

from consona.errors import APIError, AuthenticationError, ConfigurationError
from consona.rest.client.response import Response

__all__ = ["APIKey", "Authentication", "Basic", "Bearer", "ClientCredentials", "Fetch"]

Pairs = Sequence[tuple[str, str]]
Fetch = Callable[[str, str, Pairs, bytes], Awaitable[Response]]
"""`await fetch(method, url, headers, body)`: a request under the client's policy, without its credentials."""

_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Authentication(Protocol):
    """How a client shows who is asking.

    One whose headers never change may have them as `fixed`: then the client need not ask for each request.
    """

    async def headers(self, fetch: Fetch) -> Pairs:
        """The headers for a request that goes out now."""
        ...

    async def rejected(self, headers: Pairs) -> bool:
        """The server answered 401 to these headers. Whether others are to be had, so that it is asked once more."""
        ...


class Bearer:
    """A bearer token, or a function that gives the one of the moment.

    Args:
        token: The token, or a function (plain or async) without arguments that returns it, called for each
            request; after a 401 it is called again, and the request repeated once if the token is another.

    Raises:
        ConfigurationError: The token is empty or holds what a header cannot carry.

    Example:
        >>> asyncio.run(Bearer("abc").headers(None))
        (('Authorization', 'Bearer abc'),)

    Source: RFC 6750, section 2.1.
    """

    def __init__(self, token: str | Callable[[], str | Awaitable[str]]) -> None:
        self._token = token
        self.fixed: Pairs | None = (_bearer(token),) if isinstance(token, str) else None

    async def headers(self, _fetch: Fetch | None = None) -> Pairs:
        if self.fixed is not None:
            return self.fixed
        assert callable(self._token)
        token = self._token()
        if inspect.isawaitable(token):
            token = await token
        return (_bearer(token),)

    async def rejected(self, headers: Pairs) -> bool:
        return self.fixed is None and tuple(await self.headers()) != tuple(headers)

    def __repr__(self) -> str:
        return "Bearer(***)"


class APIKey:
    """A key in a header of its own.

    Args:
        key: The key.
        header: The header's name.

    Raises:
        ConfigurationError: The key is empty, or key or name hold what a header cannot carry.

    Example:
        >>> asyncio.run(APIKey("k-1", header="X-Shop-Key").headers(None))
        (('X-Shop-Key', 'k-1'),)
    """

    def __init__(self, key: str, *, header: str = "X-API-Key") -> None:
        if not _HEADER_NAME.fullmatch(header):
            raise ConfigurationError(f"APIKey(header={header!r}): that cannot be the name of a header.")
        self.fixed: Pairs = ((header, _value(key, "APIKey: the key")),)

    async def headers(self, _fetch: Fetch | None = None) -> Pairs:
        return self.fixed

    async def rejected(self, _headers: Pairs) -> bool:
        return False

    def __repr__(self) -> str:
        return f"APIKey(***, header={self.fixed[0][0]!r})"


class Basic:
    """A user name and a password.

    Raises:
        ConfigurationError: The user name holds a colon, or either holds a control character.

    Example:
        >>> asyncio.run(Basic("Aladdin", "open sesame").headers(None))
        (('Authorization', 'Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=='),)

    Source: RFC 7617.
    """

    def __init__(self, username: str, password: str) -> None:
        if ":" in username:
            raise ConfigurationError("Basic: a user name cannot hold a colon.")
        if any(ord(character) < 32 or ord(character) == 127 for character in username + password):
            raise ConfigurationError("Basic: user name and password cannot hold control characters.")
        encoded = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
        self.fixed: Pairs = (("Authorization", f"Basic {encoded}"),)
        self._username = username

    async def headers(self, _fetch: Fetch | None = None) -> Pairs:
        return self.fixed

    async def rejected(self, _headers: Pairs) -> bool:
        return False

    def __repr__(self) -> str:
        return f"Basic({self._username!r}, ***)"


class _TokenAnswer(msgspec.Struct):
    access_token: str
    token_type: str = "Bearer"  # noqa: S105 the name of a kind, left out by some servers
    expires_in: float | None = None


class ClientCredentials:
    """OAuth 2 client credentials: a token is fetched when it is needed, kept, and renewed before it ends.

    However many requests wait for it, one fetch is under way at a time. After a 401 the token is thrown
    away, and the request repeated once with a new one.

    Args:
        token_url: The token endpoint.
        client_id: Who we are.
        client_secret: The proof.
        scope: What is asked for, separated by spaces.
        audience: For whom the token is, where the server wants to know.
        send: `basic` puts id and secret into the Authorization header (RFC 6749 prefers that), `body` into the form.
        leeway: Seconds before its end at which a token is renewed (at most a tenth of its life).
        clock: Seconds that only grow.

    Raises:
        AuthenticationError: The endpoint refused, or answered without a bearer token.

    Source: RFC 6749, sections 2.3.1, 4.4 and 5; RFC 6750.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: str,
        *,
        scope: str = "",
        audience: str = "",
        send: Literal["basic", "body"] = "basic",
        leeway: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if send not in {"basic", "body"}:
            raise ConfigurationError(f"ClientCredentials(send={send!r}): it is 'basic' or 'body'.")
        self.token_url = token_url
        self._leeway = leeway
        self._clock = clock
        form = {"grant_type": "client_credentials", "scope": scope, "audience": audience}
        self._request_headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")]
        if send == "basic":
            pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}".encode()
            self._request_headers.append(("Authorization", "Basic " + base64.b64encode(pair).decode("ascii")))
        else:
            form |= {"client_id": client_id, "client_secret": client_secret}
        self._form = urlencode({name: value for name, value in form.items() if value}).encode("ascii")
        self._headers: tuple[tuple[str, str]] | None = None
        self._ends = 0.0
        self._flight: asyncio.Future[tuple[tuple[str, str]]] | None = None

    async def headers(self, fetch: Fetch) -> Pairs:
        while True:
            if self._headers is not None and self._clock() < self._ends:
                return self._headers
            flight = self._flight
            if flight is None:
                return await self._lead(fetch)
            await asyncio.wait({flight})
            if not flight.cancelled():  # else whoever fetched it was cancelled: the next in line does
                return flight.result()

    async def rejected(self, headers: Pairs) -> bool:
        if self._headers is not None and tuple(headers) == self._headers:
            self._headers = None  # another may have renewed it already, and that one stays
        return True

    async def _lead(self, fetch: Fetch) -> Pairs:
        flight = self._flight = asyncio.get_running_loop().create_future()
        try:
            headers = await self._fetch(fetch)
        except asyncio.CancelledError:
            flight.cancel()
            raise
        except BaseException as error:
            flight.set_exception(error)
            flight.exception()  # it is raised here too, so nobody need wait for it
            raise
        finally:
            self._flight = None
        flight.set_result(headers)
        return headers

    async def _fetch(self, fetch: Fetch) -> tuple[tuple[str, str]]:
        began = self._clock()
        try:
            response = await fetch("POST", self.token_url, self._request_headers, self._form)
        except APIError as error:
            if error.status not in {400, 401, 403}:
                raise
            raise AuthenticationError(
                f"The token endpoint refused: {_oauth_code(error)} (status {error.status}).",
                hint="Check client id, secret, scope, and how the endpoint wants them: send='basic' or 'body'.",
            ) from None
        answer = response.json(into=_TokenAnswer)
        if answer.token_type.lower() != "bearer":
            raise AuthenticationError(
                f"The token endpoint gave a token of type {answer.token_type[:40]!r}, not bearer."
            )
        headers = (_bearer(answer.access_token),)
        life = answer.expires_in if answer.expires_in is not None else 3600.0
        self._ends = began + life - min(self._leeway, life / 10)
        self._headers = headers
        return headers

    def __repr__(self) -> str:
        return f"ClientCredentials({self.token_url!r}, ***)"


OAUTH_ERRORS: Final = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)


def _oauth_code(error: APIError) -> Any:
    try:
        code = error.response.json().get("error")
    except Exception:  # noqa: BLE001 whatever came, the refusal is what must be told
        code = None
    return code if code in OAUTH_ERRORS else "without a known reason"


def _bearer(token: str) -> tuple[str, str]:
    return ("Authorization", "Bearer " + _value(token, "Bearer: the token"))


def _value(secret: Any, what: str) -> str:
    if not isinstance(secret, str) or not _HEADER_VALUE.fullmatch(secret):
        raise ConfigurationError(
            f"{what} is empty, or holds what a header cannot carry (a line break, a space around it, or what is beyond ASCII).",
            hint="Strip it when you read it from a file: token.strip().",
        )
    return secret
