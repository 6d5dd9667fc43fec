"""`consona events`: look at what happened, at who reads it, and take care of what could not be handled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from consona.cli.terminal import AsJSON, Plain, Terminal
from consona.errors import ConfigurationError
from consona.events.bus import EventBus
from consona.events.dead_letters import DeadEvent
from consona.events.looking_back import Place
from consona.events.records import Received

__all__ = ["events"]

T = TypeVar("T")

Address = Annotated[
    str,
    typer.Option("--bus", "-b", metavar="ADDRESS", envvar="CONSONA_EVENTS", help="Where it is: sqlite:///bus.db"),
]
Name = Annotated[str, typer.Option("--name", "-n", help="The bus's name.")]
Consumer = Annotated[str, typer.Argument(help="The consumer's durable name.")]
Positions = Annotated[
    list[int] | None, typer.Argument(help="The dead letters' positions; without any, --all is needed.")
]
All = Annotated[bool, typer.Option("--all", help="All dead letters of the consumer.")]
Bodies = Annotated[bool, typer.Option("--bodies", help="Also what they carry, which may be private.")]

events = typer.Typer(no_args_is_help=True)


@events.callback()
def _events(*, plain: Plain = False) -> None:
    """Look at the events of a bus and at its consumers, and take care of dead letters.

    Example:  consona events consumers --bus sqlite:///bus.db

    What events carry is shown with --bodies only. The address may stand in the variable CONSONA_EVENTS.
    """


@events.command(name="list")
def list_(
    patterns: Annotated[list[str] | None, typer.Argument(help="Only these types: order.placed, order.*")] = None,
    *,
    after: Annotated[int, typer.Option(min=0, help="Only those behind this position.")] = 0,
    since: Annotated[str, typer.Option(help="Only those from this time on: 2026-11-24T12:00Z")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    bodies: Bodies = False,
    bus: Address = "",
    name: Name = "events",
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """List what is kept, oldest first.

    Example:  consona events list "order.*" --since 2026-11-24T12:00Z
    """

    async def look(one: EventBus) -> list[Received]:
        found: list[Received] = []
        begin = _place(since) if since else after
        async for received in one.events(*patterns or (), after=await one.position_of(begin)):
            found.append(received)
            if len(found) == limit:
                break
        return found

    found = _with(bus, name, look)
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json([_event(each, bodies=bodies) for each in found])
        return
    for each in found:
        subject = f" {each.event.subject}" if each.event.subject else ""
        terminal.say(f"{each.position}: {_moment(each.at)} {each.event.type}{subject} from {each.event.source}")
        if bodies:
            terminal.say(f"  {(each.event.data or b'').decode(errors='backslashreplace')}")
    if not found:
        terminal.say("There are no such events.")


@events.command()
def consumers(*, bus: Address = "", name: Name = "events", as_json: AsJSON = False, plain: Plain = False) -> None:
    """List the durable consumers, with how far each has come.

    Example:  consona events consumers
    """
    found = _with(bus, name, EventBus.consumers)
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json([{"name": each.name, "position": each.position, "behind": each.behind} for each in found])
        return
    for each in found:
        terminal.say(f"{each.name}: at {each.position}, {each.behind} behind")
    if not found:
        terminal.say("There is no durable consumer yet.")


@events.command()
def seek(
    consumer: Consumer,
    place: Annotated[
        str, typer.Argument(help="new, beginning, a position, or a time with its zone: 2026-11-24T12:00Z")
    ],
    *,
    bus: Address = "",
    name: Name = "events",
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Let a consumer go on from another place: back, to handle events again, or on, to leave some out.

    Example:  consona events seek billing 2026-11-24T12:00Z
    """

    async def move(one: EventBus) -> int:
        known = {each.name for each in await one.consumers()}
        if consumer not in known:
            raise ConfigurationError(
                f"The bus {name} has no consumer {consumer!r}.", hint=f"It has: {', '.join(sorted(known)) or 'none'}."
            )
        return await one.seek(consumer, _place(place))

    position = _with(bus, name, move)
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json({"name": consumer, "position": position})
    else:
        terminal.say(f"{consumer} goes on behind position {position}.")


@events.command()
def peek(
    consumer: Consumer,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    bodies: Bodies = False,
    bus: Address = "",
    name: Name = "events",
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Show the dead letters of a consumer: what could not be handled, and why.

    Example:  consona events peek billing
    """

    async def look(one: EventBus) -> list[DeadEvent]:
        letters = []
        async for letter in one.dead_letters(consumer):
            letters.append(letter)
            if len(letters) == limit:
                break
        return letters

    letters = _with(bus, name, look)
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json([_letter(letter, bodies=bodies) for letter in letters])
        return
    for letter in letters:
        kind, tries = letter.headers.get("type", "no event"), f"after {letter.attempts} attempts"
        terminal.say(f"{letter.position}: {kind}, died {_moment(letter.died_at)} {tries}: {letter.reason}")
        if bodies:
            terminal.say(f"  {letter.body.decode(errors='backslashreplace')}")
    if not letters:
        terminal.say(f"The consumer {consumer} has no dead letters.")


@events.command()
def redrive(
    consumer: Consumer,
    positions: Positions = None,
    *,
    everything: All = False,
    bus: Address = "",
    name: Name = "events",
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Let a consumer try its dead letters again.

    Example:  consona events redrive billing --all
    """
    chosen = _chosen(positions, everything=everything)
    _tell(_with(bus, name, lambda one: one.redrive(consumer, *chosen)), "To be tried again", as_json, plain)


@events.command()
def purge(
    consumer: Consumer,
    positions: Positions = None,
    *,
    everything: All = False,
    bus: Address = "",
    name: Name = "events",
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Remove dead letters of a consumer for ever.

    Example:  consona events purge billing 17
    """
    chosen = _chosen(positions, everything=everything)
    _tell(_with(bus, name, lambda one: one.purge(consumer, *chosen)), "Removed", as_json, plain)


def _with(address: str, name: str, work: Callable[[EventBus], Awaitable[T]]) -> T:
    if not address:
        raise ConfigurationError(
            "Where is the bus? No address was given.",
            hint="Give --bus ADDRESS (sqlite:///bus.db), or set CONSONA_EVENTS.",
        )

    async def main() -> T:
        async with EventBus(address, name=name) as one:
            return await work(one)

    return asyncio.run(main())


def _place(text: str) -> Place:
    if text == "new":
        return "new"
    if text == "beginning":
        return "beginning"
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no place in a bus.",
            hint="Use new, beginning, a position, or a time with its zone: 2026-11-24T12:00Z",
        ) from None


def _chosen(positions: list[int] | None, *, everything: bool) -> list[int]:
    if bool(positions) is everything:
        raise ConfigurationError(
            "Which dead letters?", hint="Name their positions, or give --all. `consona events peek` shows them."
        )
    return positions or []


def _tell(count: int, verb: str, as_json: bool, plain: bool) -> None:  # noqa: FBT001  as they come from the command
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json({"events": count})
    else:
        terminal.say(f"{verb}: {count} {'event' if count == 1 else 'events'}.")


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _event(received: Received, *, bodies: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"position": received.position, "at": received.at, **received.event.attributes()}
    if bodies:
        told["data"] = (received.event.data or b"").decode(errors="backslashreplace")
    return told


def _letter(letter: DeadEvent, *, bodies: bool) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(letter, builtin_types=(bytes,))
    body = told.pop("body")
    if bodies:
        told["body"] = body.decode(errors="backslashreplace")
    return told
