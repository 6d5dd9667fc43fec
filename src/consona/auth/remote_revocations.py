"""What the accounts' service took back, for services that believe its tokens and do not share its database.

    revocations = RemoteRevocations("https://accounts.example", tokens, auth=Bearer(key))
    api.secure(TokenGuard(tokens, roles, revocations=revocations))

`key` is an API key of the accounts' service with the scope `revocations:read`, of an account that may do that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from consona.auth.jwt_manager import JWTManager
from consona.auth.revocation_follower import EVERY_S, RevocationFollower, Revoked
from consona.part import Health, Part, Status
from consona.rest.client.api_client import APIClient
from consona.telemetry.observer import Observer

if TYPE_CHECKING:
    from consona.rest.client.authentication import Authentication

__all__ = ["RemoteRevocations"]


class RemoteRevocations(Part):
    """Asks `GET /auth/revocations` twice a second.

    Args:
        url: Where the accounts' service is.
        tokens: Who verifies tokens here; what was taken back counts there no more. Started with this part.
        auth: What the service is shown, such as `Bearer(key)`.
        clock: Seconds since the epoch.

    Raises:
        ConsonaError: (at start) The accounts' service does not answer, or does not take the key.
    """

    kind: ClassVar[str] = "auth.revocations"

    def __init__(
        self,
        url: str,
        tokens: JWTManager,
        *,
        auth: Authentication,
        name: str = "revocations",
        every: float = EVERY_S,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, observer=observer)
        self.tokens = tokens
        self._client = APIClient(url, auth=auth)
        self._follower = _Follower(self._client, tokens.revocations, every=every, clock=clock)
        self._opened: contextlib.AsyncExitStack | None = None

    async def _open(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.tokens)
            await stack.enter_async_context(self._client)
            await self._follower.look()
            self._follower.start()
            stack.push_async_callback(self._follower.stop)
            self._opened = stack.pop_all()

    async def _close(self) -> None:
        opened, self._opened = self._opened, None
        assert opened is not None
        await opened.aclose()

    @property
    def stale(self) -> bool:
        """Whether it is not known what was taken back lately."""
        return self._follower.stale

    async def check(self) -> Health:
        """Up where the service was heard in time."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        if self.stale:
            return Health(Status.DEGRADED, "It is not known which tokens were taken back lately.")
        return Health(Status.UP)

    def detail(self) -> dict[str, Any]:
        return {"revocations": len(self.tokens.revocations), "stale": self.started and self.stale}


class _Follower(RevocationFollower):
    def __init__(self, client: APIClient, revocations: Any, **more: Any) -> None:
        super().__init__(revocations, **more)
        self._client = client

    async def _read(self, after: int) -> list[Revoked]:
        return await self._client.get("/auth/revocations", params={"after": after}, into=list[Revoked])
