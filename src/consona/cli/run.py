"""`consona run`: serve one application."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from consona.cli.answering import until_it_answers
from consona.cli.changes import Changes
from consona.cli.serve import serve
from consona.cli.serving import Serving
from consona.cli.signals import stopping_on_signals
from consona.cli.supervisor import Patience, Program, Supervisor
from consona.cli.terminal import Plain, Terminal
from consona.cli.workers import worker_program
from consona.rest.server.listen import PortInUseError, inherited, listen_tcp, listen_unix, next_free_port, url_of

__all__ = ["run"]

LOOK_EVERY_S: Final = 0.4
GRACE_S: Final = 2.0


def run(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:APP", help="The application: shop.api:api, or shop.api:make()")
    ],
    *,
    host: Annotated[
        str, typer.Option(help="The network address to listen on; 0.0.0.0 for all networks.")
    ] = "127.0.0.1",
    port: Annotated[str, typer.Option(help="The port; 0 or auto for a free one.")] = "8000",
    workers: Annotated[int, typer.Option(min=1, max=256, help="How many processes share the work.")] = 1,
    reload: Annotated[bool, typer.Option("--reload", help="Start again whenever a source file changes.")] = False,
    uds: Annotated[str | None, typer.Option(help="Listen on a Unix socket at this path instead of a port.")] = None,
    fd: Annotated[int | None, typer.Option(help="Listen on this open file descriptor instead of a port.")] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Speak TLS (https) with this certificate, a PEM file; renewed ones are taken.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="The key of the certificate, where it is in a file of its own.")
    ] = None,
    access_log: Annotated[bool, typer.Option(help="A line in the log for each request.")] = True,
    folder: Annotated[Path, typer.Option(help="Where modules are found, and watched with --reload.")] = Path(),
    name: Annotated[str | None, typer.Option(help="The service's name; by default the module's.")] = None,
    ops: Annotated[
        str | None, typer.Option(envvar="CONSONA_OPS", help="Report to this store, for the dashboard: sqlite:///ops.db")
    ] = None,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that requests under way have when it stops.")] = 10.0,
    notice: Annotated[
        float, typer.Option(min=0, help="Seconds between saying at /health/ready that it stops, and stopping.")
    ] = 0.0,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    plain: Plain = False,
) -> None:
    """Serve an ASGI application, such as an APIServer.

    Example:  consona run shop.api:api --port 8000 --workers 2

    Ctrl-C (or SIGTERM) lets requests under way finish; a second Ctrl-C ends them at once.
    """
    terminal = Terminal(plain=plain, stream=sys.stderr)
    if workers > 1 and sys.platform == "win32":
        terminal.say(
            f"Windows cannot hand one port to several processes here, so 1 worker serves instead of {workers}."
        )
        workers = 1
    if log_level not in {"debug", "info", "warning", "error"}:
        raise typer.BadParameter("use debug, info, warning or error", param_hint="--log-level")
    if tls_key is not None and tls_cert is None:
        raise typer.BadParameter("name the certificate too: --tls-cert", param_hint="--tls-key")
    listener = inherited(fd) if fd is not None else listen_unix(uds) if uds else _listen(terminal, host, port)
    serving = Serving(
        target=target,
        name=name or target.partition(":")[0].partition(".")[0],
        folder=str(folder),
        tls_cert=str(tls_cert.absolute()) if tls_cert is not None else None,
        tls_key=str(tls_key.absolute()) if tls_key is not None else None,
        ops=ops,
        access_log=access_log,
        drain_s=drain,
        notice_s=notice,
        log_level=log_level,
    )
    url = url_of(listener, tls=tls_cert is not None)
    ready = f"Serving {target} at {url} with {_counted(workers)}. Press Ctrl-C to stop."
    try:
        if workers == 1 and not reload:
            code = serve(serving, listener=listener, on_started=lambda: terminal.say(ready))
        else:
            programs = [worker_program(serving, f"worker.{n}", listener) for n in range(1, workers + 1)]
            watched = folder if reload else None
            serving.certificate()  # what is wrong with it is said once, here
            code = asyncio.run(_supervise(programs, terminal, ready, url, listener, watched, notice + drain))
    finally:
        listener.close()
        if uds:
            Path(uds).unlink(missing_ok=True)
    terminal.say("Stopped." if code == 0 else "Stopped, and not everything went well: see above.")
    raise typer.Exit(code)


def _listen(terminal: Terminal, host: str, port: str) -> socket.socket:
    if port == "auto":
        return listen_tcp(host, next_free_port(host, 8000))
    if not port.isdecimal() or int(port) > 65535:
        raise typer.BadParameter("use a number from 0 to 65535, or auto", param_hint="--port")
    try:
        return listen_tcp(host, int(port))
    except PortInUseError as error:
        if error.free and terminal.confirm(f"{error.message} Use port {error.free} instead?"):
            return listen_tcp(host, error.free)
        raise


async def _supervise(
    programs: Sequence[Program],
    terminal: Terminal,
    ready: str,
    url: str,
    listener: socket.socket,
    watched: Path | None,
    drain: float,
) -> int:
    supervisor = Supervisor(
        programs,
        say=terminal.line_of,
        hold=watched is not None,
        patience=Patience(drain=drain + GRACE_S),
        on_stop=listener.close,
    )
    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(_announce(terminal, ready, url), name="announce")]
        if watched is not None:
            beside.append(group.create_task(_reload(supervisor, terminal, watched), name="reload"))
        with stopping_on_signals(supervisor.stop):
            code = await supervisor.run()
        for task in beside:
            task.cancel()
    return code


async def _announce(terminal: Terminal, ready: str, url: str) -> None:
    await until_it_answers(url)
    terminal.say(ready)


async def _reload(supervisor: Supervisor, terminal: Terminal, folder: Path) -> None:
    changes = Changes([folder])
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        changed = await asyncio.to_thread(changes.look)
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            terminal.say(f"{changed[0]}{more} changed: starting again.")
            supervisor.restart()


def _counted(workers: int) -> str:
    return f"{workers} workers" if workers > 1 else "1 worker"
