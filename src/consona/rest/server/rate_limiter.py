"""A rate limit for each client of the server: so many requests a second, with a burst.

    api.middleware(RateLimiter(rate=10, burst=50))

A request that comes too soon is answered with 429, and every answer says how much is left:

    RateLimit-Policy: "default";q=50;w=5
    RateLimit: "default";r=49;t=1

Memory is fixed: of so many clients the times are kept, and those beyond them share one. With a
`Store`, all processes that use it keep one limit together; while the store fails, each keeps its own.

Source: GCRA, ITU-T I.371; draft-ietf-httpapi-ratelimit-headers-10; RFC 6585, section 4.
"""

from __future__ import annotations

import hashlib
import inspect
import ipaddress
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from consona.errors import ConfigurationError, ConsonaError, RateLimited
from consona.part import Part
from consona.resilience.rate import MAX_KEYS, LocalTurns, RateLimit
from consona.rest.server.middleware import CallNext
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response
from consona.storage.shared_rate import StoredTurns
from consona.storage.store import Store

__all__ = ["RateLimiter", "by_client"]

IPV6_PREFIX: Final = 64
"""One customer of a provider has so many bits of an IPv6 address at least; single addresses cost nothing."""
MAX_KEY: Final = 200
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")

log = logging.getLogger("consona.rest.server")

Key = Callable[[Request], str | Awaitable[str | None] | None]


def by_client(request: Request) -> str:
    """The client's address; for IPv6 its network of 64 bits. All that come without one share a key."""
    address = request.client_address
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((int(ip), IPV6_PREFIX), strict=False))
    return address


class RateLimiter:
    """A middleware that limits how often each client may ask.

    In any stretch of `t` seconds at most `burst + rate * t` requests of one key are let through. The paths of
    health are never limited.

    Args:
        rate: Requests a second; 0.5 is one in two seconds.
        burst: Requests that may come at once after a pause.
        key: Who counts as one: a function (plain or async) of the request. None lets the request through.
            By default the client's address, behind proxies as `ServerSettings.proxy_header` says.
        store: Where processes share the limit. The server starts and stops it.
        name: Of the limit, in headers and in the store.
        max_keys: So many keys are remembered in this process.
        clock: Seconds that only grow.
        wall_clock: Seconds since the epoch, for the store.

    Raises:
        ConfigurationError: A number is not above zero, or the name is no plain word.

    Example:
        >>> RateLimiter(rate=10, burst=50).policy
        '"default";q=50;w=5'
    """

    def __init__(
        self,
        *,
        rate: float,
        burst: int = 1,
        key: Key | None = None,
        store: Store | None = None,
        name: str = "default",
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.limit = RateLimit(rate=rate, burst=burst, max_wait=0.0)
        if not name or not set(name) <= _NAME:
            raise ConfigurationError(f"RateLimiter(name={name!r}): letters, digits, dashes, dots and underscores.")
        if max_keys < 1:
            raise ConfigurationError(f"RateLimiter(max_keys={max_keys}) must be above zero.")
        self.name = name
        self.key: Key = key or by_client
        self.parts: tuple[Part, ...] = () if store is None else (store,)
        self.refused = 0
        self._local = LocalTurns(self.limit, clock=clock, max_keys=max_keys)
        self._shared = None if store is None else StoredTurns(store, prefix=f"server-rate/{name}/", clock=wall_clock)
        window = max(1, math.ceil(burst / rate))
        self.policy = f'"{name}";q={max(burst, math.floor(rate * window))};w={window}'
        """What the header `RateLimit-Policy` says."""

    async def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Let the request through, or refuse it."""
        health = request.serving.settings.health_path
        if health and request.route.path.startswith(f"{health}/"):
            return await call_next(request)
        found: Any = self.key(request)
        key = await found if inspect.isawaitable(found) else found
        if key is None:
            return await call_next(request)
        wait, left = await self._take(key)
        if wait > 0.0:
            self.refused += 1
            error = RateLimited(
                f"More than {self.limit.rate:g} requests a second.",
                hint="Wait as long as Retry-After says.",
                retry_after=wait,
            )
            response = await request.serving.recover(error, request)
        else:
            response = await call_next(request)
        self._tell(response, left, wait)
        return response

    async def _take(self, key: str) -> tuple[float, float]:
        """The seconds until a turn is free (0: it was taken), and how many are left after it."""
        if len(key) > MAX_KEY or not (key.isascii() and key.isprintable()):
            key = "#" + hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        if self._shared is not None:
            try:
                return await self._shared.take_and_tell(key, limit=self.limit, max_wait=0.0)
            except ConsonaError as error:
                log.warning("The rate limit %r is kept by this process alone for now: %s", self.name, error.code)
        wait = self._local.take(key, max_wait=0.0)
        return max(0.0, wait), self._local.tokens(key)

    def _tell(self, response: Response, left: float, wait: float) -> None:
        whole = math.floor(left + 1e-6)
        until_full = wait if whole < 1 and wait > 0 else (self.limit.burst - left) / self.limit.rate
        headers = response.headers
        headers.add("ratelimit-policy", self.policy)
        headers.add("ratelimit", f'"{self.name}";r={whole};t={math.ceil(max(0.0, until_full) - 1e-6)}')
