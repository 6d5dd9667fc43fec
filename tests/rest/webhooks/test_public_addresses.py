"""Which addresses a stranger's URL may lead to."""

from __future__ import annotations

import pytest

from consona.rest.webhooks.public_addresses import is_public


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_the_public_internet_may_be_reached(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
        "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0",
        "fc00::1", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::1", "2001:0:0:0:0:0:80ff:fffe", "fd00:ec2::254", "", "localhost", "1", "127.1",
    ],
)  # fmt: skip
def test_this_machine_private_networks_and_what_is_no_address_may_not(address):
    assert not is_public(address)
