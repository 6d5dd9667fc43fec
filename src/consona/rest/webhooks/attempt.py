"""One try of one delivery: sign, post, and note what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from consona.errors import APIError, ConfigurationError, ConsonaError, DeadlineExceeded, NotFound
from consona.rest.client.api_client import APIClient
from consona.rest.webhooks.delivery import Delivery, DeliverySettings, Endpoint
from consona.rest.webhooks.ledger import Ledger, Noted
from consona.rest.webhooks.signing import sign
from consona.telemetry.observer import Observer

__all__ = ["Attempt"]

GONE: Final = 410
BUSY: Final = frozenset({429, 502, 503, 504})
"""The endpoint, or what stands before it, has too much to do."""
MAX_HOLD_S: Final = 86_400.0


class Outcome(NamedTuple):
    """What an endpoint answered, or why it did not."""

    status: int | None
    error: str = ""
    code: str = ""
    retry_after: float | None = None


class Attempt:
    """Makes tries. `hold(endpoint, until)` is told when an endpoint asks to be left alone."""

    def __init__(
        self,
        ledger: Ledger,
        client: APIClient,
        settings: DeliverySettings,
        observer: Observer,
        *,
        clock: Callable[[], float],
        rng: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._settings = settings
        self._observer = observer
        self._clock = clock
        self._rng = rng
        self.hold: Callable[[str, float], None] = lambda _endpoint, _until: None

    async def make(self, noted: Noted) -> None:
        """Try a claimed delivery.

        Raises:
            ConsonaError: The ledger could not be read or written.
        """
        delivery = noted.delivery
        endpoint = await self._ledger.endpoint(delivery.endpoint)
        body = await self._ledger.message(delivery.message)
        if endpoint is None or endpoint.disabled or body is None:
            why = "the endpoint was removed" if endpoint is None else f"the endpoint is disabled: {endpoint.disabled}"
            await self._fail(noted, "the body is no longer kept" if body is None else why)
            return
        with self._observer.operation("deliver", urlsplit(endpoint.url).hostname or "") as op:
            outcome = await self._post(endpoint, delivery, body)
            op.set(type=delivery.type, attempt=delivery.attempts + 1, bytes=len(body))
            if outcome.status is not None:
                op.set(status=outcome.status)
            if outcome.error:
                op.fail(outcome.code)
        if outcome.error:
            await self._failed(noted, outcome)
        else:
            await self._delivered(noted, endpoint, outcome)

    async def _post(self, endpoint: Endpoint, delivery: Delivery, body: bytes) -> Outcome:
        now = self._now()
        active = [secret.text for secret in endpoint.secrets if secret.until is None or secret.until > now]
        headers = {
            **sign(body, active, id=delivery.message, timestamp=now.timestamp()),
            "Content-Type": "application/json",
        }
        host = urlsplit(endpoint.url).hostname or ""
        limit = self._settings.timeout
        try:
            async with (
                asyncio.timeout(limit),
                self._client.stream("POST", endpoint.url, content=body, headers=headers, name=host) as answer,
            ):
                return Outcome(answer.status)  # whatever else it says is not read
        except TimeoutError:
            return Outcome(None, f"the endpoint did not answer within {limit:g} s", DeadlineExceeded.code)
        except APIError as error:
            return Outcome(error.status, f"the endpoint answered {error.status}", error.code, error.retry_after)
        except ConfigurationError as error:
            if "redirect" in error.message:  # the only answers below 400 that cannot be streamed
                return Outcome(None, "the endpoint redirects, which is not followed", "webhook.redirect")
            return Outcome(None, error.message[:300], error.code)  # its URL is none for a request after all
        except ConsonaError as error:
            return Outcome(None, error.message[:300], error.code, error.retry_after)

    async def _delivered(self, noted: Noted, endpoint: Endpoint, outcome: Outcome) -> None:
        tried = self._tried(noted.delivery, outcome)
        done = msgspec.structs.replace(tried, status="delivered", next_try=None)
        await self._ledger.finish(noted, done, keep=self._settings.keep)
        if endpoint.failing_since is not None:
            await self._note_endpoint(endpoint.id, lambda found: msgspec.structs.replace(found, failing_since=None))

    async def _failed(self, noted: Noted, outcome: Outcome) -> None:
        delivery = self._tried(noted.delivery, outcome)
        now = self._clock()
        if outcome.status in BUSY and outcome.retry_after is not None:
            self.hold(delivery.endpoint, now + min(outcome.retry_after, MAX_HOLD_S))
        gone = outcome.status == GONE
        disabled = await self._note_endpoint(delivery.endpoint, lambda found: self._worse(found, gone=gone))
        schedule = self._settings.schedule
        if disabled or delivery.attempts >= len(schedule):
            await self._fail(Noted(delivery, noted.version), delivery.last_error)
            return
        wait = schedule[delivery.attempts] * (1 + self._settings.jitter * self._rng())
        wait = max(wait, min(outcome.retry_after or 0.0, MAX_HOLD_S))
        again = msgspec.structs.replace(delivery, next_try=datetime.fromtimestamp(now + wait, UTC))
        await self._ledger.change(noted, again)

    def _worse(self, endpoint: Endpoint, *, gone: bool) -> Endpoint:
        now = self._now()
        since = endpoint.failing_since or now
        reason = endpoint.disabled
        if gone:
            reason = "it answered 410 Gone: it wants no more"
        elif (now - since).total_seconds() >= self._settings.disable_after:
            reason = f"it has failed since {since:%Y-%m-%d %H:%M} UTC"
        return msgspec.structs.replace(endpoint, failing_since=since, disabled=reason)

    async def _note_endpoint(self, id: str, change: Callable[[Endpoint], Endpoint]) -> bool:  # noqa: A002
        """Whether the endpoint gets nothing more."""
        try:
            return bool((await self._ledger.change_endpoint(id, change)).disabled)
        except NotFound:
            return True

    async def _fail(self, noted: Noted, why: str) -> None:
        failed = msgspec.structs.replace(
            noted.delivery, status="failed", next_try=None, in_progress=False, last_error=why
        )
        await self._ledger.finish(noted, failed, keep=self._settings.keep)

    def _tried(self, delivery: Delivery, outcome: Outcome) -> Delivery:
        return msgspec.structs.replace(
            delivery,
            attempts=delivery.attempts + 1,
            in_progress=False,
            last_attempt=self._now(),
            last_status=outcome.status,
            last_error=outcome.error,
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
