"""Log lines read well, for people and for machines, and hold no credentials."""

import io
import json
import logging

import pytest

from consona.telemetry.logs import configure


@pytest.fixture
def root_logging_as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("root_logging_as_it_was")
def test_plain_lines_say_the_level_in_a_word_and_mask_credentials():
    out = io.StringIO()
    configure(stream=out)
    logging.getLogger("consona.sql").warning("could not reach %s", "postgresql://ada:hunter2@db")
    line = out.getvalue()
    assert line.endswith(" warning sql: could not reach postgresql://ada:***@db\n")


@pytest.mark.usefixtures("root_logging_as_it_was")
def test_json_lines_can_be_read_by_machines():
    out = io.StringIO()
    configure(style="json", level="debug", stream=out)
    try:
        raise ValueError("redis://:hunter2@cache is broken")
    except ValueError:
        logging.getLogger("shop").exception("it failed", extra={"rows": 3, "password": "hunter2"})
    line = json.loads(out.getvalue())
    assert (line["level"], line["logger"], line["message"], line["rows"]) == ("error", "shop", "it failed", 3)
    assert "ValueError" in line["error"]
    assert "hunter2" not in out.getvalue()


@pytest.mark.usefixtures("root_logging_as_it_was")
def test_less_than_the_level_is_left_out():
    out = io.StringIO()
    configure(level="warning", stream=out)
    logging.getLogger("consona.sql").info("hello")
    assert out.getvalue() == ""
