"""`make bench`: every claim, measured one after the other, in one table. Names pick some of them.

python -m benchmarks                     all
python -m benchmarks foundation          one
"""

from __future__ import annotations

import importlib
import pkgutil
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.table import Row, markdown


def claims() -> list[str]:
    """The modules beside this one that have a `run`."""
    names = sorted(found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return [name for name in names if "\ndef run() -> " in (Path(__file__).parent / f"{name}.py").read_text("utf-8")]


def measured(names: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        print(f"Measuring {name} …", file=sys.stderr)
        rows += importlib.import_module(f"benchmarks.{name}").run()
    return rows


def main() -> None:
    known = claims()
    chosen = sys.argv[1:] or known
    if unknown := sorted(set(chosen) - set(known)):
        sys.exit(f"There is no benchmark {', '.join(unknown)}. There are: {', '.join(known)}.")
    rows = measured(chosen)
    print(markdown(rows))
    missed = sum(not row.met for row in rows)
    print(f"\n{len(rows)} rows, {missed} below their goal. Python {platform.python_version()}, {platform.machine()}.")


if __name__ == "__main__":
    main()
