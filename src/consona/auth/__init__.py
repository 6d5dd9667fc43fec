"""Who is asking, and what they may do: passwords, tokens, accounts, roles, sign-in with other services."""

from __future__ import annotations

import importlib.util

from consona.errors import MissingExtra

for _package in ("joserfc", "argon2", "pyotp", "segno"):
    if importlib.util.find_spec(_package) is None:
        raise MissingExtra(
            f"Accounts and tokens need the package {_package!r}, which is not installed.",
            hint="Run: pip install 'consona[auth]'",
            package=_package,
        )
