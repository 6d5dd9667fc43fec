"""A migration written in Python, for what SQL cannot say: `0002_fill.py`.

    async def up(tx):
        for row in await tx.fetch_all("SELECT id, name FROM users"):
            await tx.execute("UPDATE users SET slug = ? WHERE id = ?", slug(row["name"]), row["id"])

    async def down(tx): ...                  # optional

`tx` is an open transaction of the database. With `transaction = False` in the file, the functions get
the database itself, and a step that fails half-way stays half done.

The file is read, not run, until one of its functions is wanted.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from consona.sql.migrations.errors import wrong_file
from consona.sql.migrations.script import Direction

__all__ = ["PythonStep", "read_python"]


@dataclass(frozen=True, slots=True)
class PythonStep:
    """One of the two functions of a file."""

    file: Path
    function: Direction
    line: int
    transaction: bool = True
    """Whether it runs in a transaction that it is given."""

    def load(self) -> Callable[[Any], Awaitable[None]]:
        """Import the file, and give the function.

        Raises:
            MigrationFileError: The file raised an error while it was imported.
        """
        spec = importlib.util.spec_from_file_location(f"consona_migration_{self.file.stem}", self.file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise wrong_file(self.file, f"importing it raised {type(error).__name__}: {error}.") from error
        function = getattr(module, self.function)
        if not inspect.iscoroutinefunction(function):
            raise wrong_file(self.file, f"`{self.function}` is no coroutine function.", line=self.line)
        return cast("Callable[[Any], Awaitable[None]]", function)


def read_python(file: Path, text: str) -> dict[Direction, PythonStep]:
    """Which functions a file has, found without running it.

    Raises:
        MigrationFileError: It is not valid Python, or has no `async def up(tx)`.
    """
    try:
        tree = ast.parse(text, filename=str(file))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", 0) or 0
        raise wrong_file(file, f"it is not valid Python: {getattr(error, 'msg', error)}.", line=line) from error
    transaction = not any(_says_no_transaction(node) for node in tree.body)
    steps: dict[Direction, PythonStep] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in {"up", "down"}:
            direction = cast("Direction", node.name)
            if isinstance(node, ast.FunctionDef) or len(node.args.posonlyargs + node.args.args) != 1:
                raise wrong_file(
                    file,
                    f"`{direction}` must be a coroutine function with one argument.",
                    line=node.lineno,
                    hint=f"Write `async def {direction}(tx):`.",
                )
            steps[direction] = PythonStep(file, direction, node.lineno, transaction)
    if "up" not in steps:
        raise wrong_file(file, "there is no function `up` in it.", hint="Write `async def up(tx):`.")
    return steps


def _says_no_transaction(node: ast.stmt) -> bool:
    """`transaction = False`, also with an annotation."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    named = any(isinstance(target, ast.Name) and target.id == "transaction" for target in targets)
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    return named and isinstance(value, ast.Constant) and value.value is False
