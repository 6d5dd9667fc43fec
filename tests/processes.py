"""For tests that run real processes: wait for what happens, with a bound, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

LONG_S = 30.0
"""The bound of every wait: reached only when something is broken."""


async def until(what: Callable[[], bool], *, within: float = LONG_S) -> None:
    async with asyncio.timeout(within):
        while not what():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not yet collected (a zombie) does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Command:
    """`consona …` in a process of its own; its output is collected line by line."""

    def __init__(
        self, *arguments: object, folder: Path, env: dict[str, str] | None = None, fds: tuple[int, ...] = ()
    ) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "consona.cli", *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            pass_fds=fds,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def line(self, part: str, *, within: float = LONG_S, times: int = 1) -> str:
        """The first line (or the `times`-th) that contains `part`, once it was written."""
        end = time.monotonic() + within
        with self._changed:
            while True:
                found = [line for line in self.lines if part in line]
                if len(found) >= times:
                    return found[times - 1]
                left = end - time.monotonic()
                assert left > 0, f"never said {part!r}:\n{self.text}"
                self._changed.wait(min(left, 0.5))
                assert self.process.poll() is None or self._reader.is_alive() or part in self.text, (
                    f"ended without saying {part!r}:\n{self.text}"
                )

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, *, within: float = LONG_S) -> int:
        """The exit code, once it has ended and its output is complete."""
        code = self.process.wait(within)
        self._reader.join(within)
        return code

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()
