"""`consona queue`: look into queues, and take care of dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from consona.cli.terminal import AsJSON, Plain, Terminal
from consona.errors import ConfigurationError
from consona.messaging.engine import DeadLetter
from consona.messaging.queue import MessageQueue

__all__ = ["queue"]

T = TypeVar("T")

Address = Annotated[
    str,
    typer.Option(
        "--queues", "-q", metavar="ADDRESS", envvar="CONSONA_QUEUES", help="Where they are: sqlite:///work.db"
    ),
]
Name = Annotated[str, typer.Argument(help="The queue's name.")]
Ids = Annotated[list[str] | None, typer.Argument(help="The dead letters' ids; without any, --all is needed.")]
All = Annotated[bool, typer.Option("--all", help="All dead letters of the queue.")]

queue = typer.Typer(no_args_is_help=True)


@queue.callback()
def _queue(*, plain: Plain = False) -> None:
    """Look into queues, and put dead letters back or remove them.

    Example:  consona queue list --queues sqlite:///work.db

    What messages carry is shown by `peek` only. The address may stand in the variable CONSONA_QUEUES.
    """


@queue.command(name="list")
def list_(*, queues: Address = "", as_json: AsJSON = False, plain: Plain = False) -> None:
    """List the queues, with how many messages each holds.

    Example:  consona queue list
    """

    async def look(one: MessageQueue) -> list[dict[str, Any]]:
        found = []
        for name in await one.names():
            depth = await one.engine.depth(name)  # type: ignore[attr-defined]  # every engine can be inspected
            found.append({"queue": name, **msgspec.to_builtins(depth)})
        return found

    found = _with("any", queues, look)
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json(found)
    for each in [] if as_json else found:
        terminal.say("{queue}: {ready} ready, {delayed} delayed, {leased} in work, {dead} dead".format(**each))
    if not found and not as_json:
        terminal.say("There is no queue yet.")


@queue.command()
def peek(
    name: Name,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    bodies: Annotated[bool, typer.Option("--bodies", help="Also what they carry, which may be private.")] = False,
    queues: Address = "",
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Show the dead letters of a queue: when and why each died.

    Example:  consona queue peek emails
    """

    async def look(one: MessageQueue) -> list[DeadLetter]:
        letters = []
        async for letter in one.dead_letters():
            letters.append(letter)
            if len(letters) == limit:
                break
        return letters

    letters = _with(name, queues, look)
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json([_told(letter, bodies=bodies) for letter in letters])
        return
    for letter in letters:
        died = datetime.fromtimestamp(letter.died_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        terminal.say(f"{letter.id}: died {died} UTC after {letter.attempts} attempts: {letter.reason}")
        if bodies:
            terminal.say(f"  {letter.body.decode(errors='backslashreplace')}")
    if not letters:
        terminal.say(f"The queue {name} has no dead letters.")


@queue.command()
def redrive(
    name: Name,
    ids: Ids = None,
    *,
    everything: All = False,
    queues: Address = "",
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Put dead letters back into their queue.

    Example:  consona queue redrive emails --all
    """
    chosen = _chosen(ids, everything=everything)
    count = _with(name, queues, lambda one: one.redrive(*chosen))
    _tell(count, "Put back", as_json=as_json, plain=plain)


@queue.command()
def purge(
    name: Name,
    ids: Ids = None,
    *,
    everything: All = False,
    queues: Address = "",
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Remove dead letters for ever.

    Example:  consona queue purge emails 7 8
    """
    chosen = _chosen(ids, everything=everything)
    count = _with(name, queues, lambda one: one.purge(*chosen))
    _tell(count, "Removed", as_json=as_json, plain=plain)


def _with(name: str, address: str, work: Callable[[MessageQueue], Awaitable[T]]) -> T:
    if not address:
        raise ConfigurationError(
            "Where are the queues? No address was given.",
            hint="Give --queues ADDRESS (sqlite:///work.db), or set CONSONA_QUEUES.",
        )

    async def main() -> T:
        async with MessageQueue(name, address) as one:
            return await work(one)

    return asyncio.run(main())


def _chosen(ids: list[str] | None, *, everything: bool) -> list[str]:
    if bool(ids) is everything:
        raise ConfigurationError(
            "Which dead letters?", hint="Name their ids, or give --all. `consona queue peek` shows them."
        )
    return ids or []


def _tell(count: int, verb: str, *, as_json: bool, plain: bool) -> None:
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json({"messages": count})
    else:
        terminal.say(f"{verb}: {count} {'message' if count == 1 else 'messages'}.")


def _told(letter: DeadLetter, *, bodies: bool) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(letter, builtin_types=(bytes,))
    body = told.pop("body")
    if bodies:
        told["body"] = body.decode(errors="backslashreplace")
    return told
