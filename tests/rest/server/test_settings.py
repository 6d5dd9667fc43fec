"""Limits that make no sense are refused at once."""

from __future__ import annotations

import pytest

from consona.errors import ConfigurationError
from consona.rest.server.settings import ServerSettings, Trust


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": float("nan")},
        {"max_body": -1},
        {"threads": 0},
        {"drain": -1},
        {"validation_status": 500},
        {"trusted": ("10.0.0.300",)},
    ],
)
def test_a_setting_that_cannot_be_is_named(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        ServerSettings(**wrong)


def test_trust_is_by_network_and_bounded():
    trust = Trust(("127.0.0.0/8", "fd00::/8"))
    assert [trust.includes(address) for address in ("127.9.9.9", "fd00::1", "10.0.0.1", "", "nonsense", "::1")] == [
        True,
        True,
        False,
        True,
        False,
        False,
    ]
    for number in range(5000):
        trust.includes(f"10.0.{number // 250}.{number % 250}")
    assert len(trust._known) <= 1000
