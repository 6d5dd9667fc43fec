"""Addresses pick adapters, say what is wrong with them, and keep their passwords."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona import address as module
from consona.address import Address, adapter_for
from consona.errors import AddressError, MissingExtra


def test_a_relative_and_an_absolute_file_are_told_apart():
    assert Address.parse("sqlite:///shop.db").path == "shop.db"
    assert Address.parse("sqlite:////var/shop.db").path == "/var/shop.db"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "memory://"])
def test_memory_addresses_are_known_as_such(url):
    assert Address.parse(url).is_memory


def test_one_file_has_one_canonical_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.db").symlink_to(tmp_path / "shop.db")
    spellings = ["sqlite:///shop.db", f"sqlite:///{tmp_path}/shop.db", "sqlite:///./shop.db", "sqlite:///link.db"]
    assert len({Address.parse(url).canonical for url in spellings}) == 1


def test_the_password_is_never_shown():
    address = Address.parse("postgresql://ada:s3cr%40t@db:5432/shop")
    assert address.password == "s3cr@t"
    assert "s3cr" not in str(address) + repr(address)
    assert "s3cr" in address.canonical


@pytest.mark.parametrize(
    "url", ["shop.db", "", "://", "user:pw@host", "redis://h:port/0", "redis://h:99999", "redis://[::1"]
)
def test_what_is_no_address_is_refused_without_showing_a_password(url):
    with pytest.raises(AddressError) as caught:
        adapter_for("store", url)
    assert caught.value.hint
    assert "pw" not in str(caught.value)


def test_an_unknown_scheme_names_those_that_exist():
    with pytest.raises(AddressError, match=r"memory://, .*sqlite://"):
        adapter_for("store", "mogno://localhost")


def test_an_unknown_port_has_no_adapter():
    with pytest.raises(AddressError, match="Known for it: none"):
        adapter_for("teapot", "memory://")


def test_a_missing_package_is_answered_with_the_command_that_installs_it(monkeypatch, tmp_path):
    (tmp_path / "adapter_in_need.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(module.ADAPTERS, "store", {"nats": "adapter_in_need:Store"})
    with pytest.raises(MissingExtra, match=r"pip install 'consona\[nats\]'"):
        adapter_for("store", "nats://localhost")


def test_other_packages_add_adapters_by_entry_point(monkeypatch, tmp_path):
    (tmp_path / "their_store.py").write_text("class TheirStore: ...\n")
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[consona.adapters]\nstore.theirs = their_store:TheirStore\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert adapter_for("store", "theirs://anywhere").__name__ == "TheirStore"


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@given(user=text.filter(bool), password=text, path=text, options=st.dictionaries(text.filter(bool), text, max_size=3))
def test_any_credentials_and_paths_come_back_as_they_were(user, password, path, options):
    path = path.lstrip("/")
    address = Address("postgresql", "db", 5432, path, user, password, options)
    again = Address.parse(address.canonical)
    assert (again.username, again.password, again.path, again.options) == (user, password, path, options)


def test_an_address_can_be_pickled_and_hashed():
    address = Address.parse("sqlite:///a.db?x=1")
    assert pickle.loads(pickle.dumps(address)) == address
    assert hash(address) == hash(Address.parse("sqlite:///a.db?x=1"))
