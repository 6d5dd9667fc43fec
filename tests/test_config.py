"""`consona.toml`: what it says is what you get, and what is wrong in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from consona.config import Config, load_config
from consona.errors import ConfigurationError

GOOD = """
[system]
name = "storefront"
ops = "sqlite:///ops.db"

[services.shop]
app = "storefront.api:api"
port = 8001
workers = 2
env = { CURRENCY = "EUR" }

[services.back-office]
app = "office:api"
port = 8002

[dashboard]
port = 8090
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str, environ: dict[str, str] | None = None) -> Config:
        (tmp_path / "consona.toml").write_text(text, "utf-8")
        return load_config(tmp_path, environ=environ or {})

    return read


@pytest.fixture
def mistakes(read):
    def mistakes(text: str, environ: dict[str, str] | None = None) -> str:
        with pytest.raises(ConfigurationError) as caught:
            read(text, environ)
        return str(caught.value)

    return mistakes


def test_every_setting_of_the_file_is_read(read):
    config = read(GOOD)
    assert config.system.name == "storefront"
    shop = config.services["shop"]
    assert (shop.app, shop.port, shop.workers, shop.env) == ("storefront.api:api", 8001, 2, {"CURRENCY": "EUR"})
    assert config.services["back-office"].host == "127.0.0.1"
    assert config.dashboard is not None
    assert config.dashboard.port == 8090


def test_workers_are_read_and_their_mistakes_named(read, mistakes):
    worker = read('[workers.mail]\nrun = ["shop.mail:queue"]\nprocesses = 2').workers["mail"]
    assert (worker.run, worker.processes, worker.env) == (["shop.mail:queue"], 2, {})
    assert "'run' is missing" in mistakes("[workers.mail]")
    assert "run" in mistakes("[workers.mail]\nrun = []")
    same = '[services.mail]\napp = "a:b"\n[workers.mail]\nrun = ["a:c"]'
    assert "a service is called 'mail' already" in mistakes(same)


def test_a_file_without_a_dashboard_has_none(read):
    assert read('[services.shop]\napp = "a:b"').dashboard is None


def test_a_relative_ops_file_lies_beside_the_configuration(read, tmp_path):
    assert read(GOOD).ops == f"sqlite:///{tmp_path.resolve() / 'ops.db'}"


def test_the_environment_replaces_what_the_file_says(read):
    environ = {
        "CONSONA_SERVICES__SHOP__PORT": "9000",
        "CONSONA_SERVICES__BACK_OFFICE__WORKERS": "3",
        "CONSONA_SYSTEM__NAME": "test",
        "CONSONA_SERVICES__SHOP__ENV__CURRENCY": "100",
        "CONSONA_PLAIN": "not a setting of the file",
        "PATH": "/bin",
    }
    config = read(GOOD, environ)
    assert config.services["shop"].port == 9000
    assert config.services["back-office"].workers == 3
    assert config.system.name == "test"
    assert config.services["shop"].env == {"CURRENCY": "100"}


def test_a_wrong_variable_is_named_as_such_even_where_the_file_has_the_key(mistakes):
    text = mistakes(GOOD, {"CONSONA_SERVICES__SHOP__PORT": "many"})
    assert "Environment variable CONSONA_SERVICES__SHOP__PORT, services.shop.port: expected a whole number" in text


def test_a_misspelt_variable_is_an_error_with_the_nearest_setting(mistakes):
    text = mistakes(GOOD, {"CONSONA_DASHBORD__PORT": "1"})
    assert "CONSONA_DASHBORD__PORT, dashbord: there is no such setting. Did you mean 'dashboard'?" in text


def test_an_unknown_setting_is_named_with_its_line_and_the_nearest_known_one(mistakes, tmp_path):
    text = mistakes('[services.shop]\napp = "a:b"\nworkrs = 3')
    assert f"{tmp_path / 'consona.toml'}, line 3, services.shop.workrs: there is no such setting." in text
    assert "Did you mean 'workers'?" in text


def test_all_mistakes_are_named_at_once(mistakes):
    text = mistakes(
        '[system]\nnme = "x"\n[services.shop]\nport = "80"\nworkers = 0\n[services.b]\napp = "not a target"'
    )
    assert len(text.splitlines()) == 5
    for expected in (
        "line 2, system.nme",
        "line 4, services.shop.port: expected a whole number from 0 to 65535 (0: any free port); found text.",
        "line 5, services.shop.workers: expected a whole number >= 1; found a whole number (0).",
        "line 3, services.shop: the setting 'app' is missing",
        'line 7, services.b.app: expected text such as "shop.api:api"',
    ):
        assert expected in text


def test_a_table_where_a_value_stands_is_explained(mistakes):
    assert "line 1, services: expected tables, written [services.NAME], and found text." in mistakes('services = "a:b"')


def test_a_secret_in_the_file_is_refused_and_its_value_not_repeated(mistakes):
    text = mistakes('[services.shop]\napp = "a:b"\nenv = { STRIPE_API_KEY = "sk-123", PATH_STYLE = "x" }')
    assert "services.shop.env.STRIPE_API_KEY: secrets do not belong in a file" in text
    assert "sk-123" not in text
    assert "PATH_STYLE" not in text


def test_an_ops_address_with_a_password_is_refused_in_the_file_only(mistakes, read):
    text = mistakes('[system]\nops = "postgresql://shop:hunter2@db/ops"')
    assert "CONSONA_SYSTEM__OPS" in text
    assert "hunter2" not in text
    from_outside = read("", {"CONSONA_SYSTEM__OPS": "postgresql://shop:hunter2@db/ops"})
    assert from_outside.ops == "postgresql://shop:hunter2@db/ops"


def test_two_services_on_one_port_are_refused(mistakes):
    text = mistakes('[services.a]\napp = "a:b"\nport = 8000\n[services.b]\napp = "a:b"\nport = 8000')
    assert "line 6, services.b.port: port 8000 is that of services.a already" in text


def test_any_free_port_may_be_asked_for_twice(read):
    config = read('[services.a]\napp = "a:b"\nport = 0\n[services.b]\napp = "a:b"\nport = 0')
    assert [service.port for service in config.services.values()] == [0, 0]


def test_visitors_of_an_unknown_service_are_refused(mistakes):
    text = mistakes('[services.shop]\napp = "a:b"\n[visitors]\nwalk = "a:walk"\nservice = "shp"')
    assert "line 5, visitors.service: there is no service 'shp'. Did you mean 'shop'?" in text


def test_broken_toml_is_named_with_its_line(mistakes):
    assert "line 2" in mistakes("[system]\nname = storefront")


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError, match=r"There is no file .*consona.toml.*consona new"):
        load_config(tmp_path / "consona.toml")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "consona.toml").write_bytes(b"\xff\xfe[\x00")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load_config(tmp_path)


def test_a_file_can_be_named_by_its_path(tmp_path):
    file = tmp_path / "other.toml"
    file.write_text("", "utf-8")
    assert load_config(file, environ={}).folder == Path(tmp_path).resolve()
