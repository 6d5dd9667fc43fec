"""`consona up`: everything that `consona.toml` declares, under one supervisor, in one log."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from consona.cli.answering import status_of
from consona.cli.serving import Serving, Visiting
from consona.cli.signals import stopping_on_signals
from consona.cli.supervisor import Program, Supervisor
from consona.cli.terminal import Plain, Terminal
from consona.cli.workers import MAY_SHARE, worker_program
from consona.config import DATABASE_VARIABLE, Config, Service, Worker, load_config
from consona.errors import ConfigurationError
from consona.rest.server.listen import PortInUseError, listen_tcp, url_of

__all__ = ["up"]

DASHBOARD: Final = "consona.ops.dashboard:create()"
SAID_AFTER_S: Final = 15.0
ASKED_EVERY_S: Final = 0.1


def up(
    place: Annotated[Path, typer.Argument(help="consona.toml, or the folder that it is in.")] = Path(),
    *,
    visitors: Annotated[int, typer.Option(min=0, max=1000, help="Made-up visitors that use the system.")] = 0,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="The first port; services and dashboard are counted up from it. 0: free ones."
        ),
    ] = None,
    access_log: Annotated[bool, typer.Option(help="A line in the log for each request.")] = False,
    plain: Plain = False,
) -> None:
    """Start the services, the workers and the dashboard of a system, and keep them running.

    Example:  consona up examples/storefront --visitors 5

    What dies is started again. Ctrl-C lets requests under way finish; a second Ctrl-C ends them at once.
    """
    config = load_config(place)
    if not config.services:
        raise ConfigurationError(
            f"{config.folder} declares no service.", hint='Add a table [services.NAME] with app = "module:api".'
        )
    terminal = Terminal(plain=plain)
    with ExitStack() as stack:
        system = _System(config, terminal, stack, first_port=port)
        for name, service in config.services.items():
            system.add_service(name, service, access_log=access_log)
        for name, worker in config.workers.items():
            system.add_worker(name, worker)
        if config.dashboard is not None:
            system.add_dashboard()
        if visitors:
            system.add_visitors(visitors)
        code = asyncio.run(system.run())
    terminal.say("Everything has stopped." if code == 0 else "Stopped, and not everything went well: see above.")
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class _Address:
    """A line of the summary: what answers where."""

    label: str
    url: str
    programs: tuple[str, ...]
    optional: bool = False
    """Shown only if there is such a page."""


class _System:
    """The programs of a system, the sockets that they listen on, and where they answer."""

    def __init__(self, config: Config, terminal: Terminal, stack: ExitStack, *, first_port: int | None) -> None:
        self.config = config
        self.terminal = terminal
        self.programs: list[Program] = []
        self.addresses: list[_Address] = []
        self.urls: dict[str, str] = {}
        self._stack = stack
        self._first_port = first_port
        self._ports_given = 0

    def add_service(self, name: str, service: Service, *, access_log: bool) -> None:
        listener, url = self._listen(name, service.host, service.port)
        serving = self._serving(name, service.app, listener, access_log=access_log)
        if service.workers > 1 and not MAY_SHARE:
            self.terminal.say(f"{name}: this system cannot share a port between processes here, so 1 worker serves.")
        count = service.workers if MAY_SHARE else 1
        names = tuple(f"{name}.{n}" for n in range(1, count + 1))
        env = self._env(service.env)
        self.programs += [self._worker(serving, each, listener, env) for each in names]
        self.urls[name] = url
        self.addresses.append(_Address(f"{name} API", url, names))
        self.addresses.append(_Address(f"{name} docs", f"{url}/docs", names, optional=True))

    def add_worker(self, name: str, worker: Worker) -> None:
        command = (sys.executable, "-m", "consona.cli", "worker", *worker.run, "--supervised", "--name", name)
        env, folder = self._env(worker.env), self.config.folder
        self.programs += [
            Program(name=f"{name}.{n}", command=command, env=env, folder=folder) for n in range(1, worker.processes + 1)
        ]

    def _env(self, declared: dict[str, str]) -> dict[str, str]:
        """What a program finds in its environment: the database, its own settings, and where to report."""
        database = self.config.database_address(os.environ)
        return ({DATABASE_VARIABLE: database} if database else {}) | declared | {"CONSONA_OPS": self.config.ops}

    def add_dashboard(self) -> None:
        settings = self.config.dashboard
        assert settings is not None
        listener, url = self._listen("dashboard", settings.host, settings.port)
        serving = self._serving("dashboard", DASHBOARD, listener, access_log=False, reports=False)
        self.programs.append(self._worker(serving, "dashboard", listener, {"CONSONA_OPS": self.config.ops}))
        self.addresses.append(_Address("dashboard", f"{url}/ops", ("dashboard",)))

    def add_visitors(self, count: int) -> None:
        declared = self.config.visitors
        if declared is None:
            raise ConfigurationError(
                "The system declares no visitors.",
                hint='Add a table [visitors] with walk = "module:walk" and service = "NAME".',
            )
        visiting = Visiting(
            walk=declared.walk,
            url=self.urls[declared.service],
            count=count,
            ops=self.config.ops,
            folder=str(self.config.folder),
        )
        command = (sys.executable, "-m", "consona.cli.visiting", msgspec.json.encode(visiting).decode())
        self.programs.append(Program(name="visitors", command=command, folder=self.config.folder))

    async def run(self) -> int:
        supervisor = Supervisor(self.programs, say=self.terminal.line_of, on_stop=self._stack.close)
        async with asyncio.TaskGroup() as group:
            announcing = group.create_task(self._announce(supervisor), name="announce")
            with stopping_on_signals(supervisor.stop):
                code = await supervisor.run()
            announcing.cancel()
        return code

    async def _announce(self, supervisor: Supervisor) -> None:
        """Tell each address once it answers, in their order."""
        width = max(len(address.label) for address in self.addresses)
        for address in self.addresses:
            if address.optional:
                answers = await status_of(address.url) == 200
            else:
                answers = await self._answers(address, supervisor)
            if answers:
                self.terminal.line_of("consona", f"{address.label:<{width}}  {address.url}")
        self.terminal.line_of("consona", "Press Ctrl-C to stop.")

    async def _answers(self, address: _Address, supervisor: Supervisor) -> bool:
        """Wait for an answer, for as long as one of its programs is not given up."""
        clock = asyncio.get_running_loop().time
        tell_at = clock() + SAID_AFTER_S
        while not set(address.programs) <= supervisor.failed:
            if await status_of(address.url):
                return True
            await asyncio.sleep(ASKED_EVERY_S)
            if clock() > tell_at:
                tell_at = clock() + SAID_AFTER_S
                self.terminal.line_of("consona", f"Still waiting for {address.label} to answer at {address.url}")
        return False

    def _listen(self, name: str, host: str, port: int) -> tuple[socket.socket, str]:
        """A socket at the wished port; a port of the file that is in use is replaced by the next free one."""
        if self._first_port is not None:
            port = self._first_port and self._first_port + self._ports_given
            self._ports_given += 1
        try:
            listener = listen_tcp(host, port)
        except PortInUseError as error:
            if self._first_port is not None or not error.free:
                raise
            self.terminal.say(f"{name}: {error.message} Port {error.free} is taken instead.")
            listener = listen_tcp(host, error.free)
        self._stack.callback(listener.close)
        return listener, url_of(listener)

    def _serving(
        self, name: str, target: str, listener: socket.socket, *, access_log: bool, reports: bool = True
    ) -> Serving:
        host, port = listener.getsockname()[:2]
        return Serving(
            target=target,
            name=name,
            folder=str(self.config.folder),
            host=host,
            port=port,
            ops=self.config.ops if reports else None,
            access_log=access_log,
            traces_per_second=self.config.telemetry.traces_per_second,
            trace_ratio=self.config.telemetry.trace_ratio,
        )

    def _worker(self, serving: Serving, name: str, listener: socket.socket, env: dict[str, str]) -> Program:
        if not MAY_SHARE:
            listener.close()  # the worker binds the port itself
        return worker_program(serving, name, listener if MAY_SHARE else None, env=env, folder=self.config.folder)
