"""A service to sign in with, by OAuth 2: the authorization code with PKCE.

    provider = OAuth2("forge", client_id=…, client_secret=…, authorize="https://…", token="https://…",
        userinfo="https://…", mapping={"subject": "id", "name": "full_name"})

Source: RFC 6749, RFC 7636 (PKCE), RFC 9207 (`iss` in the answer), RFC 9700 (best current practice), RFC 7009 (revoke).
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, Literal
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec

from consona.auth.errors import ProviderFailed, SignInRefused
from consona.auth.oauth.handshake import Handshake, challenge_of
from consona.auth.strangers import asked_by_strangers
from consona.errors import ConfigurationError, ConsonaError
from consona.part import Part
from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient
from consona.rest.client.client_settings import ClientSettings
from consona.rest.transport import Transport
from consona.telemetry.observer import Observer

__all__ = ["Grant", "OAuth2", "Profile", "ProviderTokens"]

POLICY: Final = Policy(timeout=10.0, retry=Retry(attempts=2))
SETTINGS: Final = ClientSettings(max_redirects=0, max_answer_bytes=1_000_000)
"""No redirect is followed: secrets go to the addresses that were stated, and to no others."""
MAX_TEXT: Final = 4096


class ProviderTokens(msgspec.Struct, frozen=True):
    """What a service gave: for calls to it, in the user's name. Secrets."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 the name of a kind
    expires_in: float | None = None
    refresh_token: str = ""
    scope: str = ""
    id_token: str = ""

    def __repr__(self) -> str:
        return f"ProviderTokens(***, scope={self.scope!r})"


class Profile(msgspec.Struct, frozen=True):
    """Who somebody is at a service. `issuer` and `subject` together never mean somebody else."""

    issuer: str
    subject: str
    email: str = ""
    email_verified: bool = False
    """Whether the service has proven that the address is theirs."""
    username: str = ""
    name: str = ""
    picture: str = ""


class Grant(msgspec.Struct, frozen=True):
    """A sign-in that worked."""

    profile: Profile
    tokens: ProviderTokens


Mapper = Mapping[str, str | Callable[[dict[str, Any]], Any]]


class OAuth2(Part):
    """A service with stated endpoints.

    Args:
        name: What this application calls it: lower-case letters, digits and `-`; part of its routes.
        client_id: Who this application is there.
        client_secret: The proof; empty for a public client.
        authorize: Where the browser goes.
        token: Where codes are exchanged.
        userinfo: Where it is asked who somebody is.
        revoke: Where tokens are given back; empty where the service cannot do that.
        issuer: The service's own name; by default the origin of `authorize`.
        scopes: What is asked for.
        mapping: Field of `Profile` -> name in the service's answer, or a function of that answer.
        send: Whether id and secret go into the Authorization header (`basic`), or into the form (`body`).
        extra: More parameters of `authorize`.
        transport: What carries the requests instead of the network.

    Raises:
        ConfigurationError: A URL is not HTTPS (plain HTTP is for this machine alone), or a name is not well-formed.
    """

    kind: ClassVar[str] = "auth.provider"
    needs_nonce: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        *,
        client_id: str,
        client_secret: str = "",
        authorize: str,
        token: str,
        userinfo: str,
        revoke: str = "",
        issuer: str = "",
        scopes: Iterable[str] = (),
        mapping: Mapper | None = None,
        send: Literal["basic", "body"] = "basic",
        extra: Mapping[str, str] | None = None,
        transport: Transport | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, observer=observer)
        if not name or not all(character.isascii() and (character.isalnum() or character == "-") for character in name):
            raise ConfigurationError(f"{name!r} is no name for a provider: letters, digits and - make one.")
        if not client_id:
            raise ConfigurationError(f"{name} needs a client_id.", hint="Register this application with the service.")
        self.client_id = client_id
        self._client_secret = client_secret
        self.authorize_url, self.token_url = checked_url(authorize), checked_url(token)
        self.userinfo_url, self.revoke_url = checked_url(userinfo), checked_url(revoke)
        parts = urlsplit(authorize)
        self.issuer = issuer or f"{parts.scheme}://{parts.netloc}"
        self.scopes = tuple(scopes)
        self._mapping: Mapper = {"subject": "id", "email": "email", "name": "name"} if mapping is None else mapping
        self._send = send
        self._extra = dict(extra or {})
        self.needs_issuer_in_answer = False
        self._clock = clock
        self._client = APIClient(
            self.token_url or self.issuer, policy=POLICY, transport=transport, name=f"{name}: calls", settings=SETTINGS
        )
        self._refreshing: dict[str, asyncio.Task[ProviderTokens]] = {}

    async def _open(self) -> None:
        await self._client.start()

    async def _close(self) -> None:
        await self._client.stop()

    # The sign-in.

    async def begin(
        self,
        redirect_uri: str,
        *,
        next: str = "/",  # noqa: A002 what the field is called
        account: str = "",
        scopes: Iterable[str] | None = None,
    ) -> tuple[str, Handshake]:
        """Where to send the browser, and what to keep until it comes back.

        Args:
            redirect_uri: Where the service sends it back to: exactly as it is registered there.
            next: Where in this application it goes afterwards.
            account: Whose account is to be linked; empty for signing in.
            scopes: What is asked for, if not the usual.
        """
        self._require_started()
        with self.observer.operation("begin"):
            await self.discover()
            handshake = Handshake.new(self.name, redirect_uri, now=self._clock(), next=next, account=account)
            asked = {
                "response_type": "code",
                "client_id": self.client_id,
                "redirect_uri": redirect_uri,
                "scope": " ".join(self.scopes if scopes is None else scopes),
                "state": handshake.state,
                "code_challenge": challenge_of(handshake.verifier),
                "code_challenge_method": "S256",
                **({"nonce": handshake.nonce} if self.needs_nonce else {}),
                **self._extra,
            }
            joint = "&" if "?" in self.authorize_url else "?"
            return f"{self.authorize_url}{joint}{urlencode(asked)}", handshake

    async def discover(self) -> None:
        """Find out the endpoints, where the service tells them."""

    async def finish(self, handshake: Handshake, answer: Mapping[str, str]) -> Grant:
        """Exchange the code that the browser brought back, and find out who it is.

        Args:
            handshake: What was kept when it began.
            answer: The parameters with which the browser came back.

        Raises:
            SignInRefused: The service refused, or the answer belongs to another question.
            ProviderFailed: The service does not answer as it should.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "finish"):
            await self.discover()
            self._check_answer(handshake, answer)
            form = {
                "grant_type": "authorization_code",
                "code": answer["code"],
                "redirect_uri": handshake.redirect_uri,
                "code_verifier": handshake.verifier,
            }
            tokens = await self._ask_for_tokens(form)
            return Grant(await self._profile(tokens, handshake), tokens)

    def _check_answer(self, handshake: Handshake, answer: Mapping[str, str]) -> None:
        if handshake.provider != self.name:
            raise SignInRefused("The answer comes from another service than the one that was asked.")
        if not hmac.compare_digest(handshake.state.encode(), answer.get("state", "").encode()):
            raise SignInRefused("The answer belongs to another question (`state`).")
        issuer = answer.get("iss")
        if issuer != self.issuer and (issuer is not None or self.needs_issuer_in_answer):
            raise SignInRefused("The answer comes from another service than the one that was asked (`iss`).")
        if "error" in answer:
            raise SignInRefused(f"{self.name} refused: {_plain(answer['error'])}.", error=_plain(answer["error"]))
        if not answer.get("code") or len(answer["code"]) > MAX_TEXT:
            raise SignInRefused("The answer has no code.")

    async def _profile(self, tokens: ProviderTokens, _handshake: Handshake) -> Profile:
        return await self.userinfo(tokens.access_token)

    async def userinfo(self, access_token: str) -> Profile:
        """Who the owner of an access token is.

        Raises:
            SignInRefused: The token does not count.
            ProviderFailed: The service does not answer as it should.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "userinfo"):
            return self.profile_of(await self._get(self.userinfo_url, access_token))

    def profile_of(self, told: dict[str, Any]) -> Profile:
        """The profile that the service's answer tells.

        Raises:
            ProviderFailed: It does not say who it is.
        """
        found: dict[str, Any] = {}
        for field, source in self._mapping.items():
            value = source(told) if callable(source) else told.get(source)
            if value is not None:
                found[field] = value if field == "email_verified" else str(value)[:MAX_TEXT]
        found["email_verified"] = found.get("email_verified") is True
        if not found.get("subject"):
            raise ProviderFailed(f"{self.name} did not say who it is.")
        return Profile(issuer=self.issuer, **found)

    # Tokens.

    async def refresh(self, refresh_token: str) -> ProviderTokens:
        """New tokens for an old refresh token. Callers who ask at the same time share one call.

        Raises:
            SignInRefused: It does not count any more.
            ProviderFailed: The service does not answer as it should.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "refresh"):
            await self.discover()
            task = self._refreshing.get(refresh_token)
            if task is None:
                form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
                task = self._refreshing[refresh_token] = asyncio.create_task(self._ask_for_tokens(form))
                task.add_done_callback(lambda _: self._refreshing.pop(refresh_token, None))
            tokens = await asyncio.shield(task)
            # A service that gives no new one means that the old one goes on to count (RFC 6749, section 6).
            return tokens if tokens.refresh_token else msgspec.structs.replace(tokens, refresh_token=refresh_token)

    async def revoke(self, token: str) -> None:
        """Give a token back.

        Raises:
            ConfigurationError: The service cannot do that.
            ProviderFailed: The service does not answer as it should.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "revoke"):
            await self.discover()
            if not self.revoke_url:
                raise ConfigurationError(f"{self.name} has no way to give tokens back.")
            headers, form = self._proof()
            await self._call("POST", self.revoke_url, headers=headers, data=form | {"token": token})

    async def _ask_for_tokens(self, form: dict[str, str]) -> ProviderTokens:
        headers, proof = self._proof()
        told = await self._call("POST", self.token_url, headers=headers, data=form | proof)
        if "error" in told:  # some services refuse with status 200
            raise SignInRefused(f"{self.name} refused: {_plain(told['error'])}.", error=_plain(told["error"]))
        try:
            tokens = msgspec.convert(told, ProviderTokens, strict=False)
        except msgspec.ValidationError:
            raise ProviderFailed(f"{self.name} gave no tokens.") from None
        if tokens.token_type.lower() != "bearer" or not tokens.access_token:
            raise ProviderFailed(f"{self.name} gave tokens of another kind than bearer.")
        return tokens

    def _proof(self) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and fields that say who this application is."""
        if not self._client_secret:
            return {}, {"client_id": self.client_id}
        if self._send == "body":
            return {}, {"client_id": self.client_id, "client_secret": self._client_secret}
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self._client_secret)}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}, {}

    # Calls.

    async def _get(self, url: str, access_token: str) -> dict[str, Any]:
        told = await self._call("GET", url, headers={"Authorization": f"Bearer {access_token}"})
        if not isinstance(told, dict):
            raise ProviderFailed(f"{self.name} answered with something that is no JSON object.")
        return told

    async def _call(self, method: str, url: str, *, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """The decoded answer of a call.

        Raises:
            SignInRefused: The service refused it (status 400 to 403), with its reason where it gives one.
            ProviderFailed: Anything else went wrong.
        """
        try:
            response = await self._client.request(
                method, url, headers={"Accept": "application/json", **(headers or {})}, raise_for_status=False, **more
            )
        except ConsonaError as error:
            raise ProviderFailed(f"{self.name} does not answer.", retry_after=error.retry_after) from error
        told: Any = {}
        if response.content:
            try:
                told = msgspec.json.decode(response.content)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                if response.status < 400:
                    raise ProviderFailed(f"{self.name} answered with something that is not JSON.") from None
        if response.status >= 400:
            reason = _reason(told)
            if response.status in {400, 401, 403}:
                raise SignInRefused(f"{self.name} refused: {reason or response.status}.", error=reason)
            raise ProviderFailed(f"{self.name} answered with status {response.status}.", answered=response.status)
        if response.status >= 300 or not isinstance(told, dict | list):
            raise ProviderFailed(f"{self.name} answered with something that is no JSON object.")
        return told


def checked_url(url: str) -> str:
    """A URL that secrets may be sent to.

    Raises:
        ConfigurationError: It is not HTTPS, and not on this machine.
    """
    if not url:
        return url
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" and host and not parts.fragment and not parts.username:
        return url
    if parts.scheme == "http" and _is_here(host):
        return url
    raise ConfigurationError(f"{url!r} cannot be used.", hint="Use https://; http:// is for this machine alone.")


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(told: Any) -> str:
    """The error's name: a word in OAuth, an object at Facebook."""
    error = told.get("error") if isinstance(told, dict) else None
    if isinstance(error, dict):
        error = error.get("type") or error.get("code")
    return _plain(error) if error else ""


def _plain(error: Any) -> str:
    """An error's name as it may stand in a message: it comes from elsewhere."""
    return "".join(c for c in str(error)[:60] if c.isascii() and (c.isalnum() or c in "_-. ")) or "unknown"
