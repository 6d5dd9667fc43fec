"""`consona documents`: collections out of a document database into files, and back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, TypeVar

import typer

from consona.cli.terminal import AsJSON, Plain, Terminal
from consona.documents.database import DocumentDatabase
from consona.documents.extended_json import loads
from consona.documents.transfer import Imported, export_lines, import_documents, read_documents
from consona.errors import ConfigurationError, NotFound

__all__ = ["documents"]

T = TypeVar("T")

STEP: Final = 100_000
"""Documents between two words about the progress."""

Address = Annotated[
    str,
    typer.Option(
        "--database", "-d", metavar="ADDRESS", envvar="CONSONA_DOCUMENTS", help="Where they are: sqlite:///catalog.db"
    ),
]
Name = Annotated[str, typer.Argument(help="The collection's name.")]

documents = typer.Typer(no_args_is_help=True)


@documents.callback()
def _documents(*, plain: Plain = False) -> None:
    """Write collections of documents into files, and read them back.

    Example:  consona documents export products products.jsonl --database sqlite:///catalog.db

    A line is one document in MongoDB's extended JSON, as mongoexport and mongoimport have it. The address may stand in
    the variable CONSONA_DOCUMENTS.
    """


@documents.command(name="list")
def list_(*, database: Address = "", as_json: AsJSON = False, plain: Plain = False) -> None:
    """List the collections, with how many documents each holds.

    Example:  consona documents list -d sqlite:///catalog.db
    """

    async def look(one: DocumentDatabase) -> list[dict[str, Any]]:
        found = await one.engine.describe()
        return [{"collection": facts.name, "documents": facts.documents} for facts in found]

    found = _with(database, look)
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json(found)
        return
    for each in found:
        terminal.say("{collection}: {documents} documents".format(**each))
    if not found:
        terminal.say("There is no collection yet.")


@documents.command()
def export(
    name: Name,
    file: Annotated[str, typer.Argument(help="Where to; - is the standard output.")] = "-",
    *,
    query: Annotated[str, typer.Option("--filter", "-f", metavar="JSON", help="Which documents; all by default.")] = "",
    database: Address = "",
    plain: Plain = False,
) -> None:
    """Write the documents of a collection, one a line, all as they were at one moment.

    Example:  consona documents export products cheap.jsonl --filter '{"price": {"$lt": 5}}'

    The file is there when all of it is written, and not before.
    """
    wanted = _filter(query)

    async def work(one: DocumentDatabase, target: BinaryIO) -> int:
        if name not in await one.list_collection_names():
            raise NotFound(f"There is no collection {name!r}.", hint="`consona documents list` shows them.")
        count = 0
        async for line in export_lines(one[name], wanted):
            target.write(line)
            count += 1
            _progress(count, "written")
        return count

    if file == "-":
        _with(database, lambda one: work(one, sys.stdout.buffer))
        return
    part = Path(f"{file}.part")
    try:
        with part.open("wb") as target:
            count = _with(database, lambda one: work(one, target))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    Terminal(plain=plain).say(f"Written: {count} {'document' if count == 1 else 'documents'}.")


@documents.command(name="import")
def import_(
    name: Name,
    file: Annotated[str, typer.Argument(help="From where; - is the standard input.")] = "-",
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Replace documents with the same _id.")] = False,
    database: Address = "",
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Read documents into a collection, one a line, or one array of them.

    Example:  consona documents import products products.jsonl

    What cannot be kept is told with its line, the rest is kept, and the exit code is 1.
    """

    async def work(one: DocumentDatabase) -> Imported:
        with nullcontext(sys.stdin.buffer) if file == "-" else _opened(file) as source:
            return await import_documents(
                one[name], read_documents(source), replace=replace, progress=lambda done: _progress(done.read, "read")
            )

    done = _with(database, work)
    terminal = Terminal(plain=plain)
    if as_json:
        failures = [{"line": number, "reason": why} for number, why in done.failures]
        terminal.json({"read": done.read, "written": done.written, "failed": done.failed, "failures": failures})
    else:
        terminal.say(f"Read: {done.read}. Kept: {done.written}. Refused: {done.failed}.")
        for number, why in done.failures:
            terminal.say(f"  line {number}: {why}")
        if done.failed > len(done.failures):
            terminal.say(f"  and {done.failed - len(done.failures)} more")
    if done.failed:
        raise typer.Exit(1)


def _opened(file: str) -> BinaryIO:
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise ConfigurationError(f"The file {file} cannot be read: {error.strerror}.") from error


def _filter(text: str) -> Any:
    try:
        return loads(text) if text else None
    except ValueError as error:
        raise ConfigurationError(
            f"--filter is no JSON: {error}.", hint="""--filter '{"price": {"$lt": 5}}'"""
        ) from error


def _progress(count: int, verb: str) -> None:
    if count % STEP == 0 and count:
        sys.stderr.write(f"{count} documents {verb} …\n")


def _with(address: str, work: Callable[[DocumentDatabase], Awaitable[T]]) -> T:
    if not address:
        raise ConfigurationError(
            "Where are the documents? No address was given.",
            hint="Give --database ADDRESS (sqlite:///catalog.db), or set CONSONA_DOCUMENTS.",
        )

    async def main() -> T:
        async with DocumentDatabase(address) as one:
            return await work(one)

    return asyncio.run(main())
