"""A folder is read in order, whole, and without running anything of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from consona.sql.dialect import POSTGRESQL, SQLITE
from consona.sql.migrations.errors import MigrationFileError
from consona.sql.migrations.folder import Migration, new_file, read_folder
from consona.sql.migrations.python_step import PythonStep

CREATE = "-- up\nCREATE TABLE a (x);\n-- down\nDROP TABLE a;\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def only(folder: Path) -> Migration:
    [migration] = read_folder(folder, SQLITE)
    return migration


def refusal(folder: Path) -> MigrationFileError:
    with pytest.raises(MigrationFileError) as caught:
        read_folder(folder, SQLITE)
    return caught.value


def test_numbers_order_the_files_not_their_spelling(folder):
    for name in ("10_ten.sql", "9_nine.sql", "0002_two.sql", "20260131120000_last.sql"):
        (folder / name).write_text(CREATE)
    assert [migration.version for migration in read_folder(folder, SQLITE)] == [2, 9, 10, 20260131120000]
    assert next(migration.label for migration in read_folder(folder, SQLITE)) == "0002_two"


def test_other_files_are_left_alone(folder):
    for name in ("README.md", "__init__.py", ".0001_hidden.sql", "_draft.sql", "0001_x.sql~"):
        (folder / name).write_text("not a migration")
    (folder / "__pycache__").mkdir()
    assert read_folder(folder, SQLITE) == []


@pytest.mark.parametrize(
    "name", ["create_users.sql", "0001.sql", "0001-users.sql", "v1_users.sql", "0_x.sql", "fill.py"]
)
def test_a_mistyped_name_is_refused_rather_than_passed_over(folder, name):
    (folder / name).write_text(CREATE)
    assert name in refusal(folder).message


def test_files_for_each_direction_are_told_how_to_be_one(folder):
    (folder / "0001_users.up.sql").write_text("CREATE TABLE a (x)")
    assert "below `-- up` and `-- down`" in refusal(folder).hint


def test_two_files_with_one_number_are_refused(folder):
    (folder / "0007_mine.sql").write_text(CREATE)
    (folder / "7_yours.sql").write_text(CREATE)
    error = refusal(folder)
    assert "0007_mine.sql" in error.message
    assert "7_yours.sql" in error.message


def test_a_missing_folder_is_told(folder):
    with pytest.raises(MigrationFileError, match="There is no folder") as caught:
        read_folder(folder / "absent", SQLITE)
    assert "consona migrate new" in caught.value.hint


def test_bytes_that_are_no_text_are_told_with_their_line(folder):
    (folder / "0001_x.sql").write_bytes(b"-- up\nSELECT '\xff'")
    assert "0001_x.sql, line 2: it is not text in UTF-8" in refusal(folder).message
    (folder / "0001_x.sql").write_bytes(b"-- up\n\n\0")
    assert "line 3: it has a NUL" in refusal(folder).message


# Checksums


def checksum(folder: Path, text: str | bytes, name: str = "0001_x.sql") -> str:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return only(folder).checksum


def test_line_endings_and_a_byte_order_mark_change_nothing(folder):
    plain = checksum(folder, CREATE)
    assert checksum(folder, CREATE.replace("\n", "\r\n")) == plain
    assert checksum(folder, b"\xef\xbb\xbf" + CREATE.encode()) == plain
    assert checksum(folder, CREATE.replace("(x);", "(x);  \t") + "\n\n") == plain
    assert checksum(folder, CREATE.replace("(x)", "(y)")) != plain


def test_what_did_not_run_may_be_repaired(folder):
    plain = checksum(folder, CREATE)
    assert checksum(folder, CREATE + "DROP TABLE b;") == plain
    assert checksum(folder, CREATE + "-- up postgresql\nCREATE TABLE a (x int);") == plain
    [elsewhere] = read_folder(folder, POSTGRESQL)
    assert elsewhere.checksum != plain


# Python steps


def test_a_python_step_is_read_without_running_it(folder):
    (folder / "0002_fill.py").write_text("raise SystemExit\n\nasync def up(tx): ...\n\nasync def down(tx): ...\n")
    step = only(folder)
    assert step.up == PythonStep(folder / "0002_fill.py", "up", 3)
    assert step.down == PythonStep(folder / "0002_fill.py", "down", 5)


async def test_a_python_step_runs_when_it_is_wanted(folder):
    (folder / "0002_fill.py").write_text("transaction = False\n\nasync def up(db):\n    db.append('up')\n")
    step = only(folder)
    assert step.down is None
    assert isinstance(step.up, PythonStep)
    assert not step.up.transaction
    seen: list[str] = []
    await step.up.load()(seen)
    assert seen == ["up"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("async def up(tx)\n    pass", "line 1: it is not valid Python"),
        ("async def down(tx): ...", "no function `up`"),
        ("\ndef up(tx): ...", "line 2: `up` must be a coroutine function"),
        ("async def up(): ...", "line 1: `up` must be a coroutine function with one argument"),
    ],
)
def test_a_wrong_python_step_is_told(folder, text, message):
    (folder / "0001_x.py").write_text(text)
    assert message in refusal(folder).message


def test_an_error_while_importing_names_the_file(folder):
    (folder / "0001_x.py").write_text("import no_such_module\nasync def up(tx): ...")
    step = only(folder).up
    assert isinstance(step, PythonStep)
    with pytest.raises(MigrationFileError, match="ModuleNotFoundError"):
        step.load()


def test_what_cannot_be_undone_says_so(folder):
    (folder / "0001_x.sql").write_text("CREATE TABLE a (x)")
    migration = only(folder)
    assert migration.step("up") is migration.up
    with pytest.raises(MigrationFileError, match="cannot be undone"):
        migration.step("down")


# New files


def test_new_files_are_numbered_on(folder):
    now = "20260131120000"
    assert new_file(folder / "migrations", "Create users!", now=now).name == "0001_create_users.sql"
    assert new_file(folder / "migrations", "fill", now=now, python=True).name == "0002_fill.py"
    (folder / "migrations" / "0009_x.sql").write_text(CREATE)
    assert new_file(folder / "migrations", "ten", now=now).name == "0010_ten.sql"


def test_a_folder_that_numbers_by_time_goes_on_so(folder):
    (folder / "20260101000000_x.sql").write_text(CREATE)
    assert new_file(folder, "next", now="20260131120000").name == "20260131120000_next.sql"


def test_a_new_file_must_be_filled_before_it_runs(folder):
    new_file(folder, "empty", now="")
    assert "no statement to run" in refusal(folder).message


def test_a_name_without_letters_is_refused(folder):
    with pytest.raises(MigrationFileError, match="no name"):
        new_file(folder, "!!", now="")
