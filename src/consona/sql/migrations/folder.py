"""A folder of migrations: which files are in it, in which order, and what each says.

    0001_create_users.sql
    0002_fill_slugs.py
    20260131120000_add_orders.sql        # a time as the number: fewer clashes between branches

A name is a number, `_`, and small words; numbers order the files, and none is used twice. Other `.sql`
and `.py` files are refused, since a mistyped name would be passed over without a word; what begins with
`_` or `.`, and all other kinds of files, are left alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consona.sql.dialect import Dialect
from consona.sql.migrations.errors import MigrationFileError, wrong_file
from consona.sql.migrations.python_step import PythonStep, read_python
from consona.sql.migrations.script import Direction, Script, normalised, read_script

__all__ = ["Migration", "new_file", "read_folder"]

MAX_VERSION: Final = 2**63 - 1
_NAME: Final = re.compile(r"(\d+)_([A-Za-z0-9][A-Za-z0-9_-]{0,149})\.(sql|py)")
_TIME_DIGITS: Final = 14


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of the folder, as it is for one engine."""

    version: int
    name: str
    file: Path
    checksum: str
    """Of what `up` does (of a Python file: of all of it): 64 hexadecimal digits. `down` may be repaired later."""
    up: Script | PythonStep
    down: Script | PythonStep | None

    @property
    def label(self) -> str:
        """The file's name without its ending: `0001_create_users`."""
        return self.file.stem

    def step(self, direction: Direction) -> Script | PythonStep:
        """What is run in a direction.

        Raises:
            MigrationFileError: It has no `down`.
        """
        if direction == "up":
            return self.up
        if self.down is None:
            raise wrong_file(
                self.file,
                "it cannot be undone: it has no `down`.",
                hint="Write one, or undo it with a new migration.",
            )
        return self.down


def read_folder(folder: Path | str, dialect: Dialect) -> list[Migration]:
    """All migrations of a folder, in their order. No code of theirs is run.

    Raises:
        MigrationFileError: There is no such folder, or a file in it cannot be understood.

    Example:
        >>> import tempfile
        >>> from consona.sql.dialect import SQLITE
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "0001_create_users.sql").write_text("CREATE TABLE users (name TEXT);")
        >>> [(migration.version, migration.name) for migration in read_folder(folder, SQLITE)]
        [(1, 'create_users')]
    """
    migrations: dict[int, Migration] = {}
    for file in _files(Path(folder)):
        migration = _read(file, dialect)
        other = migrations.setdefault(migration.version, migration)
        if other is not migration:
            raise wrong_file(
                file,
                f"the number {migration.version} is that of {other.file.name} already.",
                hint="Give the newer one the next free number.",
            )
    return [migrations[version] for version in sorted(migrations)]


def new_file(folder: Path | str, name: str, *, now: str, python: bool = False) -> Path:
    """Make the file of a new migration, with the next number; in the form of the last one.

    Args:
        folder: Made where it does not exist.
        name: In words; becomes `small_words`.
        now: The time as `20260131120000`, for folders that number by time.
        python: A Python step instead of SQL.

    Raises:
        MigrationFileError: The name has no letter or digit, or a file in the folder is misnamed.
    """
    folder = Path(folder)
    words = "_".join(re.findall(r"[a-z0-9]+", name.lower()))[:150]
    if not words:
        raise MigrationFileError(f"{name!r} is no name for a migration.", hint="Say in a few words what it does.")
    folder.mkdir(parents=True, exist_ok=True)
    last = max((_named(file)[1] for file in _files(folder)), key=int, default="0000")
    number = now if len(last) >= _TIME_DIGITS else str(int(last) + 1).zfill(len(last))
    file = folder / f"{number}_{words}.{'py' if python else 'sql'}"
    with file.open("x", encoding="utf-8") as stream:
        stream.write(_NEW_PYTHON if python else _NEW_SQL)
    return file


_NEW_SQL: Final = "-- up\n\n\n-- down\n\n"
_NEW_PYTHON: Final = '''\
"""What this migration does, and why."""


async def up(tx):
    raise NotImplementedError("Write what is to be done, with tx.execute and tx.fetch_all.")


async def down(tx):
    raise NotImplementedError("Write how it is undone, or remove this function.")
'''


def _files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise MigrationFileError(
            f"There is no folder {str(folder)!r}.",
            hint="Name the folder of the migrations, or make the first one: consona migrate new NAME.",
            folder=str(folder),
        )
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in {".sql", ".py"} and file.name[0] not in "._" and file.is_file():
            yield file


def _named(file: Path) -> tuple[int, str, str]:
    """Version, digits and name from the name of a file."""
    found = _NAME.fullmatch(file.name)
    if found is None:
        paired = file.name.lower().endswith((".up.sql", ".down.sql"))
        hint = "Put both directions into one file, below `-- up` and `-- down`." if paired else ""
        raise wrong_file(file, "this is no name of a migration.", hint=hint or "Write it as 0001_small_words.sql.")
    version = int(found[1])
    if not 0 < version <= MAX_VERSION:
        raise wrong_file(file, "the number must be above 0 and have at most 18 digits.")
    return version, found[1], found[2]


def _read(file: Path, dialect: Dialect) -> Migration:
    version, _, name = _named(file)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise wrong_file(file, f"it cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise wrong_file(file, "it is not text in UTF-8.", line=line, hint="Save it as UTF-8.") from error
    if "\0" in text:
        raise wrong_file(file, "it has a NUL character.", line=text.count("\n", 0, text.index("\0")) + 1)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    steps: dict[Direction, Script] | dict[Direction, PythonStep]
    if file.suffix == ".py":
        steps = read_python(file, text)
        checked = normalised(text)
    else:
        steps = read_script(file, text, dialect)
        checked = steps["up"].text
    checksum = hashlib.sha256(checked.encode()).hexdigest()
    return Migration(version, name, file, checksum, steps["up"], steps.get("down"))
