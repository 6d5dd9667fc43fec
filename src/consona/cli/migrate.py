"""`consona migrate`: the schema of a database, step by step."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from consona.cli.loading import find_modules_in
from consona.cli.terminal import AsJSON, Plain, Terminal
from consona.config import DATABASE_VARIABLE, FILE_NAME, Config, load_config
from consona.errors import ConfigurationError
from consona.sql.database import SQLDatabase
from consona.sql.migrations.errors import MigrationFailed
from consona.sql.migrations.folder import new_file
from consona.sql.migrations.runner import MigrationRun, Migrations

__all__ = ["migrate"]

T = TypeVar("T")

DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        "-d",
        metavar="ADDRESS",
        help=f"The database, as sqlite:///shop.db or postgresql://. Without it: ${DATABASE_VARIABLE}, then consona.toml.",
    ),
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", "-f", help="The folder of the migrations. Without it: consona.toml, then migrations."),
]
ProjectOption = Annotated[Path, typer.Option("--project", help="consona.toml, or the folder that it is in.")]
WaitOption = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait while somebody else migrates the same database.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Run nothing; print the SQL that would run.")]

migrate = typer.Typer(no_args_is_help=True)


@migrate.callback()
def _migrate(*, plain: Plain = False) -> None:
    """Change the schema of a SQL database with migrations: files that say one step each.

    Example:  consona migrate up --database sqlite:///shop.db

    The address of the database is taken from --database, from the variable CONSONA_DATABASE, or from
    consona.toml ([database] address). Keep passwords in the environment.
    """


@dataclass(frozen=True)
class _Place:
    """Which database, which folder of migrations, and in which project."""

    database: str
    folder: Path
    project: Path


def _place(database: str, folder: Path | None, project: Path, *, needs_database: bool = True) -> _Place:
    config = None
    if (project / FILE_NAME).exists() or project.is_file():
        config = load_config(project)
    found = config.database if config else None
    address = database or (config or Config()).database_address(os.environ)
    if not address and needs_database:
        raise ConfigurationError(
            "Which database? No address was given.",
            hint=f"Give --database ADDRESS, set {DATABASE_VARIABLE}, or write address below [database] in {FILE_NAME}.",
        )
    root = config.folder if config else Path.cwd()
    if folder is None:
        folder = root / (found.migrations if found else "migrations") if config else Path("migrations")
    return _Place(address, folder, root)


def _with(place: _Place, work: Callable[[Migrations], Awaitable[T]], *, wait: float = 300.0) -> T:
    async def main() -> T:
        async with SQLDatabase(place.database) as db:
            return await work(Migrations(db, place.folder, wait=wait))

    find_modules_in(place.project)  # a Python step may use the program's own modules
    try:
        return asyncio.run(main())
    except MigrationFailed as error:
        for name in error.context.get("ran", ()):  # they stay, so they are told before the error
            sys.stderr.write(f"Done before: {name}\n")
        raise


@migrate.command()
def new(
    name: Annotated[str, typer.Argument(help="What it does, in a few words.")],
    *,
    python: Annotated[bool, typer.Option("--python", help="A step in Python instead of SQL.")] = False,
    folder: FolderOption = None,
    project: ProjectOption = Path(),
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Make the file of a new migration, with the next number.

    Example:  consona migrate new "create users"
    """
    place = _place("", folder, project, needs_database=False)
    file = new_file(place.folder, name, now=datetime.now(UTC).strftime("%Y%m%d%H%M%S"), python=python)
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json({"file": str(file)})
    else:
        terminal.say(f"Made {file}. Write into it what is to be done, then: consona migrate up")


@migrate.command()
def up(
    *,
    to_version: Annotated[int | None, typer.Option("--to", min=1, help="The last version to run.")] = None,
    out_of_order: Annotated[
        bool, typer.Option("--out-of-order", help="Also run those whose number is below the last one that ran.")
    ] = False,
    continue_at: Annotated[
        int | None,
        typer.Option("--continue-at", min=1, help="Where one is half done: the statement at which to go on, from 1."),
    ] = None,
    dry_run: DryRun = False,
    wait: WaitOption = 300.0,
    database: DatabaseOption = "",
    folder: FolderOption = None,
    project: ProjectOption = Path(),
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Run the migrations that did not run yet, in order.

    Example:  consona migrate up --dry-run

    The exit code is 0 if the database is up to date afterwards, 1 if a migration failed or does not fit.
    """
    runs = _with(
        _place(database, folder, project),
        lambda migrations: migrations.up(
            to=to_version, out_of_order=out_of_order, continue_at=continue_at, dry_run=dry_run
        ),
        wait=wait,
    )
    _tell(Terminal(plain=plain), runs, dry_run=dry_run, as_json=as_json)


@migrate.command()
def down(
    *,
    steps: Annotated[int, typer.Option("--steps", min=1, help="How many to undo.")] = 1,
    dry_run: DryRun = False,
    wait: WaitOption = 300.0,
    database: DatabaseOption = "",
    folder: FolderOption = None,
    project: ProjectOption = Path(),
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Undo the last migration, or the last few, the newest first.

    Example:  consona migrate down --steps 2 --dry-run
    """
    place = _place(database, folder, project)
    runs = _with(place, lambda migrations: migrations.down(steps=steps, dry_run=dry_run), wait=wait)
    _tell(Terminal(plain=plain), runs, dry_run=dry_run, as_json=as_json)


@migrate.command()
def to(
    version: Annotated[int, typer.Argument(min=0, help="The number of the migration; 0 undoes everything.")],
    *,
    dry_run: DryRun = False,
    wait: WaitOption = 300.0,
    database: DatabaseOption = "",
    folder: FolderOption = None,
    project: ProjectOption = Path(),
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Bring the database to a version, up or down.

    Example:  consona migrate to 3 --dry-run
    """
    place = _place(database, folder, project)
    runs = _with(place, lambda migrations: migrations.to(version, dry_run=dry_run), wait=wait)
    _tell(Terminal(plain=plain), runs, dry_run=dry_run, as_json=as_json)


@migrate.command()
def status(
    *,
    database: DatabaseOption = "",
    folder: FolderOption = None,
    project: ProjectOption = Path(),
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Show how each migration stands: done, pending, edited, missing, out of order, half done.

    Example:  consona migrate status --json
    """
    found = _with(_place(database, folder, project), Migrations.status)
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json({"migrations": [asdict(one) for one in found]})
        return
    for one in found:
        ran = f", at {one.ran_at}, {_time(one.seconds)}, by {one.ran_by}" if one.ran_at else ""
        terminal.say(f"{one.name}: {one.state}{ran}")
    if not found:
        terminal.say("There is no migration yet. Make one: consona migrate new NAME")


@migrate.command()
def check(
    *,
    database: DatabaseOption = "",
    folder: FolderOption = None,
    project: ProjectOption = Path(),
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Fail if a migration is pending or was edited after it ran, or if the schema is not what the migrations make.

    Example:  consona migrate check --database sqlite:///shop.db

    For build servers. The migrations are run in an empty database beside, and the schemas are compared.
    The exit code is 0 if all is in order, 1 if not.
    """
    findings = _with(_place(database, folder, project), Migrations.check)
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json({"in_order": not findings, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            terminal.say(f"{finding.kind}: {finding.text}")
        for hint in dict.fromkeys(finding.hint for finding in findings if finding.hint):
            terminal.say(f"What to do: {hint}")
        if not findings:
            terminal.say("All is in order: the schema is what the migrations make.")
    raise typer.Exit(1 if findings else 0)


@migrate.command()
def baseline(
    version: Annotated[int, typer.Argument(min=1, help="The last migration that is done already.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Mark nothing; only tell what would be marked.")] = False,
    database: DatabaseOption = "",
    folder: FolderOption = None,
    project: ProjectOption = Path(),
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Mark migrations as done without running them, with their files as they are now.

    Example:  consona migrate baseline 3

    For a database that is older than its migrations, and after an edit that changes nothing.
    """
    found = _with(_place(database, folder, project), lambda migrations: migrations.baseline(version, dry_run=dry_run))
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json({"dry_run": dry_run, "marked": [one.name for one in found]})
        return
    for one in found:
        terminal.say(f"{'Would mark' if dry_run else 'Marked'} {one.name} as done.")
    if not found:
        terminal.say("Nothing to mark: all of them are done, and none was edited.")


def _tell(terminal: Terminal, runs: Sequence[MigrationRun], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        told: dict[str, Any] = {"dry_run": dry_run, "migrations": [asdict(run) for run in runs]}
        terminal.json(told)
    elif dry_run:
        for run in runs:
            terminal.say(f"-- {run.name}, {run.direction}")
            for statement in run.statements:
                terminal.say(statement if statement.startswith("--") else f"{statement};")
    else:
        for run in runs:
            terminal.say(f"{'Ran' if run.direction == 'up' else 'Undid'} {run.name} ({_time(run.seconds)}).")
    if not runs and not as_json:
        terminal.say("-- Nothing to do." if dry_run else "Nothing to do.")


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
