"""`consona worker`: handle the messages of queues and the events of buses, in one process or several."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from consona.app import App
from consona.cli.loading import TargetError, load
from consona.cli.signals import stopping_on_signals
from consona.cli.supervisor import Patience, Program, Supervisor
from consona.cli.terminal import Plain, Terminal
from consona.events.bus import EventBus
from consona.messaging.queue import MessageQueue
from consona.part import Part
from consona.telemetry import logs

__all__ = ["worker"]

GRACE_S: Final = 5.0
Source = MessageQueue | EventBus


def worker(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE:NAME...",
            help="The queues and buses that have handlers, or apps with some: shop.mail:emails shop:app",
        ),
    ],
    *,
    processes: Annotated[int, typer.Option(min=1, max=256, help="How many processes share the work.")] = 1,
    drain: Annotated[
        float, typer.Option(min=0, help="Seconds that handlers have to end when it stops; then they are interrupted.")
    ] = 30.0,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="End when nothing is left to do now.")] = False,
    folder: Annotated[Path, typer.Option(help="Where modules are found.")] = Path(),
    name: Annotated[str, typer.Option(help="The service's name in the dashboard.")] = "worker",
    ops: Annotated[
        str | None, typer.Option(envvar="CONSONA_OPS", help="Report to this store, for the dashboard: sqlite:///ops.db")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    plain: Plain = False,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Handle the messages of queues, and the events of buses, until it is stopped.

    Example:  consona worker shop.mail:emails --processes 2

    Ctrl-C (or SIGTERM) takes no more and lets handlers end. A process that dies is started again; what it held
    comes back when its lease ends.
    """
    if log_level not in {"debug", "info", "warning", "error"}:
        raise typer.BadParameter("use debug, info, warning or error", param_hint="--log-level")
    if until_empty and processes > 1:
        raise typer.BadParameter("one process works until nothing is left", param_hint="--until-empty")
    terminal = Terminal(plain=plain, stream=sys.stderr)
    if processes > 1:
        arguments = [*targets, "--drain", str(drain), "--folder", str(folder), "--name", name]
        arguments += ["--log-level", log_level, "--supervised"]
        arguments += ["--ops", ops] if ops else []
        code = asyncio.run(_supervise(processes, arguments, drain, terminal))
        terminal.say("Stopped." if code == 0 else "Stopped, and not everything went well: see above.")
        raise typer.Exit(code)
    logs.configure(level=log_level, stream=sys.stderr)
    parts = list(dict.fromkeys(part for target in targets for part in _parts(target, folder.resolve())))
    asyncio.run(_work(parts, name, ops, drain=drain, until_empty=until_empty, terminal=terminal, supervised=supervised))


def _parts(target: str, folder: Path) -> Sequence[Part]:
    """What a target names: a queue or a bus, or the parts of an app, of which one at least is such."""
    found = load(target, folder)
    parts = found.parts if isinstance(found, App) else (found,)
    if not any(isinstance(part, MessageQueue | EventBus) for part in parts):
        raise TargetError(
            f"{target} is a {type(found).__name__}: neither a MessageQueue nor an EventBus, nor an App with one."
        )
    return parts


async def _work(
    parts: Sequence[Part],
    name: str,
    ops: str | None,
    *,
    drain: float,
    until_empty: bool,
    terminal: Terminal,
    supervised: bool,
) -> None:
    sources = [part for part in parts if isinstance(part, MessageQueue | EventBus)]
    async with App(name, parts=parts, ops=ops, stop_timeout=drain + GRACE_S):
        working = asyncio.create_task(_work_on(sources, drain=drain, until_empty=until_empty), name="work")
        terminal.say(f"Working on {', '.join(source.name for source in sources)}. Press Ctrl-C to stop.")

        def stop() -> None:
            working.cancel()

        if supervised:
            _when_the_supervisor_ends(asyncio.get_running_loop(), stop)
        with stopping_on_signals(stop):
            await asyncio.wait([working])
        if not working.cancelled():
            working.result()


async def _work_on(sources: Sequence[Source], *, drain: float, until_empty: bool) -> None:
    async with asyncio.TaskGroup() as group:
        for source in sources:
            group.create_task(source.work(drain=drain, until_empty=until_empty), name=f"work on {source.name}")


def _when_the_supervisor_ends(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Call `stop` when standard input, the supervisor's pipe, is closed."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        with contextlib.suppress(RuntimeError):  # it ended by itself meanwhile
            loop.call_soon_threadsafe(stop)

    threading.Thread(target=watch, name="consona-supervisor-watch", daemon=True).start()


async def _supervise(processes: int, arguments: Sequence[str], drain: float, terminal: Terminal) -> int:
    command = (sys.executable, "-m", "consona.cli", "worker", *arguments)
    programs = [Program(name=f"worker.{n}", command=command) for n in range(1, processes + 1)]
    supervisor = Supervisor(programs, say=terminal.line_of, patience=Patience(drain=drain + GRACE_S))
    with stopping_on_signals(supervisor.stop):
        return await supervisor.run()
