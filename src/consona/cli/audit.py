"""`consona audit`: what happened to the accounts of an application, and whether the log of it is whole."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from consona.cli.terminal import AsJSON, Plain
from consona.cli.users import Action, users

__all__ = ["audit"]


class Look(StrEnum):
    """What to do."""

    VERIFY = "verify"


def audit(
    action: Annotated[Look, typer.Argument(help="What to do.")],
    target: Annotated[str, typer.Argument(help="The accounts, as module:attribute.")],
    *,
    folder: Annotated[Path, typer.Option("--folder", help="Where the module is.")] = Path(),
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Check the audit log of accounts and print it; the same as `consona users audit`. Exit code 1: it was changed.

    Example:  consona audit verify shop.api:accounts
    """
    assert action is Look.VERIFY
    users(Action.AUDIT, target, "", email="", role=None, folder=folder, as_json=as_json, plain=plain)
