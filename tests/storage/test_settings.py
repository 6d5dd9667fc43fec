import pytest

from consona.address import Address
from consona.errors import ConfigurationError
from consona.storage.settings import SQLiteSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"synchronous": "MAYBE"},
        {"max_batch": 0},
        {"max_batch": 1.5},
        {"readers": True},
        {"readers": -1},
        {"cache_mib": 0},
        {"checkpoint_pages": 0},
        {"busy": 0},
        {"wait": -1},
        {"transaction": "5"},
        {"transaction": float("nan")},
        {"busy": float("inf")},
    ],
)
def test_a_wrong_value_is_named(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        SQLiteSettings(**wrong)


def test_an_address_overrides_single_settings():
    address = Address.parse("sqlite:///x.db?busy=1.5&readers=2&synchronous=off")
    settings = SQLiteSettings(max_batch=7).with_options(address)
    assert (settings.busy, settings.readers, settings.synchronous, settings.max_batch) == (1.5, 2, "OFF", 7)


def test_an_unknown_setting_in_an_address_is_named_with_those_that_exist():
    with pytest.raises(ConfigurationError, match=r"'reader'.*Known: .*readers"):
        SQLiteSettings().with_options(Address.parse("sqlite:///x.db?reader=2"))


def test_a_setting_in_an_address_that_is_no_number_is_named():
    with pytest.raises(ConfigurationError, match="readers must be a number; it is 'many'"):
        SQLiteSettings().with_options(Address.parse("sqlite:///x.db?readers=many"))
