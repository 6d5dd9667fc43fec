"""Where in the user's program something was asked for: `orders.py:41 in place_order`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import PurePath
from types import CodeType, FrameType
from typing import Any

__all__ = ["caller_place", "task_place"]

_OURS = "consona."


def caller_place() -> str:
    """The innermost line outside of Consona that led here."""
    frame = sys._getframe(1)
    while _is_ours(frame) and frame.f_back is not None:
        frame = frame.f_back
    return _place(frame.f_code, frame.f_lineno)


def task_place(task: asyncio.Task[Any] | None) -> str:
    """The line outside of Consona at which a waiting task waits. Costs the task nothing: it is looked up here."""
    found, waiting = "", task.get_coro() if task is not None else None
    while (frame := getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)) is not None:
        if found and _is_ours(frame):
            break
        found = _place(frame.f_code, frame.f_lineno)
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
    return found or "an unknown place"


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_OURS)


def _place(code: CodeType, line: int) -> str:
    return f"{PurePath(code.co_filename).name}:{line} in {code.co_qualname}"
