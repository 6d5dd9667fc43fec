"""Runs the programs of a Markdown page, as a reader would: in order, in one folder, in one namespace.

    ```python                     runs; `await` may stand at the top level
    ```python title="shop.py"     is written to that file, which later blocks can import; so for every language
    ```console                    not run, unless a comment stands before it:
                                  <!-- run -->                each line that begins with `$ ` is run, and must end with 0
                                  <!-- run until: TEXT -->    its one command is started; the page goes on once it
                                                              has printed TEXT, and it is stopped when the page ends
    ```text title="Output"        what the block before it printed; `...` stands for anything

A Python block that cannot run in a test says why in a comment before it: <!-- not run: REASON -->
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import os
import re
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"^(?:[ ]*<!-- (?P<comment>[^\n]*?) -->\n)?"
    r"^(?P<indent>[ ]*)```(?P<language>[a-z]+)(?P<options>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)
PATIENCE_S = 30


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str
    comment: str
    text: str
    line: int
    """The line of the page on which its text begins, from 1."""


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        title = re.search(r'title="([^"]*)"', match["options"])
        indent = len(match["indent"])
        found.append(
            Block(
                language=match["language"],
                title=title[1] if title else "",
                comment=match["comment"] or "",
                text="".join(line[indent:] for line in match["text"].splitlines(keepends=True)),
                line=text.count("\n", 0, match.start("text")) + 1,
            )
        )
    return found


class Started:
    """A command that runs while the rest of its page does."""

    def __init__(self, command: str, wanted: str) -> None:
        self._lines: list[str] = []
        self._seen = threading.Event()
        self._process = subprocess.Popen(
            command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
            start_new_session=os.name != "nt",
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(wanted,))
        self._reader.start()
        if not self._seen.wait(PATIENCE_S) or not any(wanted in line for line in self._lines):
            self.stop()
            raise AssertionError(f"{command!r} did not print {wanted!r}, but:\n{''.join(self._lines)}")

    def _read(self, wanted: str) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.append(line)
                if wanted in line:
                    self._seen.set()
        self._seen.set()

    def stop(self) -> None:
        if os.name == "nt":
            self._process.terminate()
        elif self._process.poll() is None:
            os.killpg(self._process.pid, 15)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._reader.join(PATIENCE_S)


class PageRun:
    """One run of one page, in the current folder."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self._module = types.ModuleType(f"page_{page.stem.replace('-', '_').lower()}")
        self._loop = asyncio.Runner()
        self._started: list[Started] = []
        self._printed = ""

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """What is written to the folder can be imported while the page runs, and is forgotten after it."""
        before = set(sys.modules)
        path, env = list(sys.path), os.environ["PATH"]
        sys.path.insert(0, str(Path.cwd()))
        sys.modules[self._module.__name__] = self._module
        # `consona` is the one beside the Python that runs the tests.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env])
        try:
            yield
        finally:
            sys.path[:], os.environ["PATH"] = path, env
            here = Path.cwd().resolve()
            for name in set(sys.modules) - before:
                file = getattr(sys.modules[name], "__file__", None)
                if name == self._module.__name__ or (file and here in Path(file).resolve().parents):
                    del sys.modules[name]

    def run(self) -> None:
        with self._place():
            try:
                for block in blocks(self.page):
                    self._block(block)
            finally:
                for started in self._started:
                    started.stop()
                self._loop.close()

    def _block(self, block: Block) -> None:
        if block.title == "Output":
            self._compare(block)
        elif block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python" and not block.comment.startswith("not run:"):
            self._printed = self._python(block)
        elif block.language == "console" and block.comment == "run":
            self._printed = "".join(self._command(line) for line in commands(block))
        elif block.language == "console" and block.comment.startswith("run until:"):
            [command] = commands(block)
            self._started.append(Started(command, block.comment.removeprefix("run until:").strip()))

    def _python(self, block: Block) -> str:
        # Empty lines before it make the line numbers of a traceback those of the page.
        source = "\n" * (block.line - 1) + block.text
        code = compile(source, str(self.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if code.co_flags & inspect.CO_COROUTINE:
                self._loop.run(eval(code, self._module.__dict__))
            else:
                exec(code, self._module.__dict__)
        return printed.getvalue()

    def _command(self, command: str) -> str:
        done = subprocess.run(
            command, shell=True, capture_output=True, text=True, encoding="utf-8", check=False, timeout=60
        )
        assert done.returncode == 0, f"{command!r} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _compare(self, block: Block) -> None:
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        same = doctest.OutputChecker().check_output(block.text, self._printed, flags)
        assert same, f"{self.page.name}:{block.line}: the page promises\n{block.text}\nbut it prints\n{self._printed}"


def commands(block: Block) -> list[str]:
    return [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]
