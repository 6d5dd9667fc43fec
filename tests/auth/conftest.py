"""For the tests of accounts and tokens: no limit for one example, since cryptography is slow on a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("cryptography", deadline=None)
settings.load_profile("cryptography")
