"""`pool=10`: how many statements of a database run at the same time, whatever the engine calls it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from consona.address import Address
from consona.errors import ConfigurationError

__all__ = ["with_pool"]

SETTINGS: Final = {"sqlite": "readers"}
"""Scheme -> the setting of the address; `max_size` elsewhere."""


def with_pool(address: Address, size: Any) -> Address:
    """The address with the size of its pool.

    Raises:
        ConfigurationError: It is no whole number above 0, or the address names another one.

    Example:
        >>> str(with_pool(Address.parse("postgresql://db.example/shop"), 20))
        'postgresql://db.example/shop?max_size=20'
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigurationError(f"pool={size!r} is no number of connections.", hint="Write pool=10.")
    setting = SETTINGS.get(address.scheme, "max_size")
    named = address.options.get(setting, str(size))
    if named != str(size):
        raise ConfigurationError(
            f"{address} names {setting}={named}, and pool={size} was given.", hint="Leave out one of them."
        )
    return replace(address, options={**address.options, setting: str(size)})
