"""Keeps processes alive: starts them, restarts those that die, shows what they write, and ends them.

    supervisor = Supervisor([Program(name="shop.1", command=(sys.executable, "-m", "shop"))], say=terminal.line_of)
    await supervisor.run()          # until stop() is called, or nothing is left that could run

Each process gets a pipe as its standard input. Closing it is the request to end, on every system; it
also closes by itself when the supervisor is killed. A process that honours neither is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["Patience", "Program", "Supervisor"]

ME: Final = "consona"
USAGE: Final = 2
"""The exit code of a program that was called or configured wrongly: starting it again would not help."""
LONGEST_LINE: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process that is to be kept alive."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    """Besides the supervisor's own environment."""
    folder: Path | None = None
    fds: tuple[int, ...] = ()
    """File descriptors (listening sockets) that it inherits. Not on Windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How a supervisor treats what dies, and what does not want to. Times in seconds."""

    quick: float = 5.0
    """Who lives shorter than this died quickly; who lives longer is started again at once."""
    deaths: int = 5
    """After so many quick deaths in a row it is given up."""
    backoff: float = 0.5
    """The wait after the first quick death; it doubles with each further one."""
    longest: float = 10.0
    drain: float = 12.0
    """How long a process may take to end after it was asked to; then it is killed."""


class Supervisor:
    """Runs programs, each in a process of its own, until it is told to stop.

    Args:
        programs: What to run; the names must differ.
        say: Called with a program's name and a line that it wrote (or that there is to say about it).
        patience: When to start again, when to give up, when to kill.
        hold: What dies stays down until `restart()`: for work on the code, where only a change helps.
        on_stop: Called when everything is asked to end. Whoever holds a listening socket for its programs lets go of
            it here, so that no connection waits for programs that do not come back.
        clock: Seconds; measures how long a process lived.
        sleep: Waits before a process is started again.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        say: Callable[[str, str], None],
        patience: Patience | None = None,
        hold: bool = False,
        on_stop: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self.programs = tuple(programs)
        self.failed: set[str] = set()
        """Programs that were given up, or had to be killed at the end."""
        self._say = say
        self._patience = patience or Patience()
        self._hold = hold
        self._on_stop = on_stop
        self._clock = clock
        self._sleep = sleep
        self._lives: dict[str, _Life] = {}
        self._stopping = asyncio.Event()
        self._killing = asyncio.Event()
        self._wanted = asyncio.Event()

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now, by program."""
        return {name: life.pid for name, life in self._lives.items()}

    async def run(self) -> int:
        """Run everything, until `stop()`, or until every program was given up.

        Returns:
            The exit code: 0 if all ended as asked, 1 if a program was given up or had to be killed.
        """
        async with asyncio.TaskGroup() as group:
            for program in self.programs:
                group.create_task(self._keep(program), name=f"keep {program.name}")
        return 1 if self.failed else 0

    def stop(self) -> None:
        """The first call asks every process to end; the second kills those that are left."""
        if self._stopping.is_set():
            self._killing.set()
        self._stopping.set()
        self._on_stop()

    def restart(self, *, drain: float = 2.0) -> None:
        """End every process and start it again, without counting that as a death.

        Args:
            drain: Seconds that each has to end; then it is killed.
        """
        for life in self._lives.values():
            life.drain = drain
            life.asked.set()
        self._wanted.set()
        self._wanted = asyncio.Event()

    async def _keep(self, program: Program) -> None:
        quick_deaths = 0
        while not self._stopping.is_set():
            began = self._clock()
            try:
                life = await self._start(program)
            except OSError as error:
                self._give_up(program, f"cannot be started: {error}.")
                return
            await self._follow(program, life)
            if self._stopping.is_set():
                return
            if life.asked.is_set():
                quick_deaths = 0
                continue
            lived = self._clock() - began
            quick_deaths = quick_deaths + 1 if lived < self._patience.quick else 0
            if not await self._again(program, life.code, lived, quick_deaths):
                return

    async def _start(self, program: Program) -> _Life:
        life = _Life(self, program)
        await asyncio.get_running_loop().subprocess_exec(
            lambda: life,
            *program.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **program.env},
            cwd=program.folder,
            **_apart(program.fds),
        )
        self._lives[program.name] = life
        return life

    async def _follow(self, program: Program, life: _Life) -> None:
        """Return when the process is over, having asked it to end (and killed it) where that was wished."""
        try:
            await _first(life.over.wait(), life.asked.wait(), self._stopping.wait())
            drain = self._patience.drain if life.drain is None else life.drain
            if not life.over.is_set():
                life.ask_to_end()
                await _first(life.over.wait(), self._killing.wait(), asyncio.sleep(drain))
            if not life.over.is_set():
                if not self._killing.is_set():
                    self._tell(ME, f"{program.name} did not end within {drain:g} s and is killed.")
                if self._stopping.is_set():
                    self.failed.add(program.name)
                life.kill()
            await life.over.wait()
            await _first(life.silent.wait(), asyncio.sleep(1.0))  # its last lines
        finally:
            self._lives.pop(program.name, None)
            life.close()

    async def _again(self, program: Program, code: int, lived: float, quick_deaths: int) -> bool:
        """Wait as long as is right after a death; False where the program is given up."""
        end = f"{program.name} {_told(code)} after {lived:.1f} s"
        if self._hold:
            self._tell(ME, f"{end}. It is started again when a file changes.")
            await _first(self._wanted.wait(), self._stopping.wait())
            return True
        if code == USAGE:
            self._give_up(program, "cannot run as it is called or configured. Its last lines say why.")
            return False
        if quick_deaths >= self._patience.deaths:
            self._give_up(program, f"{_told(code)} {quick_deaths} times in a row shortly after its start.")
            return False
        wait = min(self._patience.longest, self._patience.backoff * 2 ** (quick_deaths - 1)) if quick_deaths else 0.0
        self._tell(ME, f"{end}. It is started again {f'in {wait:g} s' if wait else 'now'}.")
        await _first(self._sleep(wait), self._stopping.wait())
        return True

    def _tell(self, name: str, line: str) -> None:
        try:
            self._say(name, line)
        except OSError:  # whoever read our output is gone
            self._stopping.set()

    def _give_up(self, program: Program, why: str) -> None:
        self.failed.add(program.name)
        self._tell(ME, f"{program.name} {why} It is not started again.")


class _Life(asyncio.SubprocessProtocol):
    """One process, from its start to its end."""

    def __init__(self, supervisor: Supervisor, program: Program) -> None:
        self.asked = asyncio.Event()
        """It is to be replaced."""
        self.over = asyncio.Event()
        self.silent = asyncio.Event()
        """It is over, and all that it wrote was shown."""
        self.code = 0
        self.drain: float | None = None
        self.pid = 0
        self._supervisor = supervisor
        self._name = program.name
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport
        self.pid = transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 - the protocol's signature
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._show(line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        if fd == 1 and self._rest:
            self._show(self._rest)
            self._rest = b""

    def process_exited(self) -> None:
        self.code = self._transport.get_returncode() or 0
        self._kill_group()  # what it left behind
        self.over.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.silent.set()

    def ask_to_end(self) -> None:
        pipe = self._transport.get_pipe_transport(0)
        if pipe is not None:
            pipe.close()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._transport.kill()
        self._kill_group()

    def close(self) -> None:
        """Let go of it; after a cancellation of the supervisor it may still run, and is killed."""
        if not self.over.is_set():
            self.kill()
        self._transport.close()

    def _kill_group(self) -> None:
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _show(self, line: bytes) -> None:
        self._supervisor._tell(self._name, line.decode("utf-8", "replace").rstrip("\r"))


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when the first of them does; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _apart(fds: tuple[int, ...]) -> dict[str, Any]:
    """In a process group of its own, so that Ctrl-C reaches the supervisor alone, which then asks in order."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"process_group": 0, "pass_fds": fds}


def _told(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
