"""What can be wrong with a token.

AuthenticationError
└── TokenInvalid          not ours, changed, not meant for us, or not a token at all
    ├── TokenExpired      its time is over
    └── TokenRevoked      it was taken back before its time was over
"""

from __future__ import annotations

from consona.errors import AuthenticationError

__all__ = ["TokenExpired", "TokenInvalid", "TokenRevoked"]


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
