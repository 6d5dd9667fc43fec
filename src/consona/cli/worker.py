"""`consona worker`: handle the messages of queues, in one process or several."""

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
from consona.messaging.queue import MessageQueue
from consona.telemetry import logs

__all__ = ["worker"]

GRACE_S: Final = 5.0


def worker(
    targets: Annotated[
        list[str], typer.Argument(metavar="MODULE:QUEUE...", help="The queues that have a handler: shop.mail:emails")
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
    """Handle the messages of queues until it is stopped.

    Example:  consona worker shop.mail:emails --processes 2

    Ctrl-C (or SIGTERM) takes no more messages and lets handlers end. A process that dies is started again;
    the messages that it held come back when their lease ends.
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
    queues = [_queue(target, folder.resolve()) for target in targets]
    asyncio.run(
        _work(queues, name, ops, drain=drain, until_empty=until_empty, terminal=terminal, supervised=supervised)
    )


def _queue(target: str, folder: Path) -> MessageQueue:
    found = load(target, folder)
    if not isinstance(found, MessageQueue):
        raise TargetError(f"{target} is a {type(found).__name__}, not a MessageQueue.")
    return found


async def _work(
    queues: Sequence[MessageQueue],
    name: str,
    ops: str | None,
    *,
    drain: float,
    until_empty: bool,
    terminal: Terminal,
    supervised: bool,
) -> None:
    async with App(name, parts=queues, ops=ops, stop_timeout=drain + GRACE_S):
        working = asyncio.create_task(_work_on(queues, drain=drain, until_empty=until_empty), name="work")
        terminal.say(f"Working on {', '.join(queue.name for queue in queues)}. Press Ctrl-C to stop.")

        def stop() -> None:
            working.cancel()

        if supervised:
            _when_the_supervisor_ends(asyncio.get_running_loop(), stop)
        with stopping_on_signals(stop):
            await asyncio.wait([working])
        if not working.cancelled():
            working.result()


async def _work_on(queues: Sequence[MessageQueue], *, drain: float, until_empty: bool) -> None:
    async with asyncio.TaskGroup() as group:
        for queue in queues:
            group.create_task(queue.work(drain=drain, until_empty=until_empty), name=f"work on {queue.name}")


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
