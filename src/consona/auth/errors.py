"""What can be wrong with a token, or with a login.

AuthenticationError
├── TokenInvalid          not ours, changed, not meant for us, or not a token at all
│   ├── TokenExpired      its time is over
│   ├── TokenRevoked      it was taken back before its time was over
│   └── RefreshRefused    a refresh token that does not count (any more)
├── LinkRefused           a link from a mail that does not count (any more)
├── LoginFailed           no such account, or another password
│   └── SecondFactorNeeded    the password is right, and a code is asked for
├── SignInRefused         another service refused, or its answer does not belong to our question
└── AccountDisabled       the password is right, and the account may not be used
RateLimited
└── AccountLocked         too many wrong guesses
ConsonaError
├── ProviderFailed        another service does not answer as it should
└── RevocationsStale      it is not known which tokens were taken back lately
"""

from __future__ import annotations

from typing import Any

from consona.errors import AuthenticationError, ConsonaError, RateLimited

__all__ = [
    "AccountDisabled",
    "AccountLocked",
    "LinkRefused",
    "LoginFailed",
    "ProviderFailed",
    "RefreshRefused",
    "RevocationsStale",
    "SecondFactorNeeded",
    "SignInRefused",
    "TokenExpired",
    "TokenInvalid",
    "TokenRevoked",
]


class TokenInvalid(AuthenticationError):
    """The token is not one of ours, was changed, is not meant for us, or is no token at all."""

    code = "auth.token_invalid"
    challenge = 'Bearer error="invalid_token"'
    """The `WWW-Authenticate` header of the answer (RFC 6750, section 3.1)."""
    hint = "Sign in again, and send the token as it was given."


class TokenExpired(TokenInvalid):
    """The token's time is over."""

    code = "auth.token_expired"
    hint = "Get a new one with the refresh token, or sign in again."


class TokenRevoked(TokenInvalid):
    """The token was taken back: a logout, a changed password, changed roles, or a disabled account."""

    code = "auth.token_revoked"
    hint = "Sign in again."


class LoginFailed(AuthenticationError):
    """There is no account of that name with that password. Which of the two is wrong is not told."""

    code = "auth.login_failed"


class SecondFactorNeeded(LoginFailed):
    """Name and password are right, and the account asks for a code too.

    `note` is for `authenticate_code`, so that the password need not be sent again; it counts five minutes.
    """

    code = "auth.second_factor_needed"
    hint = "Send the same again, with the code of your app or a recovery code."

    def __init__(self, message: str = "", *, note: str = "", **more: Any) -> None:
        super().__init__(message, **more)
        self.note = note


class AccountLocked(RateLimited):
    """So many guesses were wrong that no more are taken for a while; `retry_after` says for how long."""

    code = "auth.locked"
    retryable = False
    hint = "Wait, or set a new password with the link that can be sent to the account's e-mail address."


class AccountDisabled(AuthenticationError):
    """The account was disabled. This is told only to who knows its password."""

    code = "auth.account_disabled"
    status = 403
    hint = "Ask whoever runs the service."


class RefreshRefused(TokenInvalid):
    """The refresh token is wrong, over, or was used before. After a second use the whole session is ended."""

    code = "auth.refresh_refused"


class LinkRefused(AuthenticationError):
    """A link that was sent by mail does not count: it was followed, is too old, or was never sent."""

    code = "auth.link_refused"
    status = 400
    hint = "Ask for a new mail, and follow the link in the newest one."


class RevocationsStale(ConsonaError):
    """It was not heard for more than a second which tokens were taken back, so critical routes wait."""

    code = "auth.revocations_stale"
    status = 503
    retryable = True
    hint = "The database of the accounts does not answer. Everything that is not critical goes on."


class SignInRefused(AuthenticationError):
    """Signing in with another service did not work: it refused, or its answer does not belong to the question."""

    code = "auth.sign_in_refused"
    hint = "Begin again from the sign-in page."


class ProviderFailed(ConsonaError):
    """The other service did not answer, or not as its standard says."""

    code = "auth.provider_failed"
    status = 502
    retryable = True
    hint = "Try again later. If it stays so, look at the service's own status page."
