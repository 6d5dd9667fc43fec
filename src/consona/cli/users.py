"""`consona users`: the accounts of an application."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consona.cli.loading import load
from consona.cli.terminal import AsJSON, Plain, Terminal
from consona.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from consona.auth.authentication_system import AuthenticationSystem

__all__ = ["users"]


class Action(StrEnum):
    """What to do."""

    LIST = "list"
    ADD = "add"
    SHOW = "show"
    ROLES = "roles"
    EXPORT = "export"
    RESET = "reset"
    PASSWORD = "password"  # noqa: S105 the name of an action
    DISABLE = "disable"
    ENABLE = "enable"
    UNLOCK = "unlock"
    LOGOUT = "logout"
    DELETE = "delete"
    AUDIT = "audit"


def users(
    action: Annotated[
        Action,
        typer.Argument(
            help="What to do; export prints all that is known of an account, reset sends the mail for a new password; audit checks the log and prints it."
        ),
    ],
    target: Annotated[str, typer.Argument(help="The accounts, as module:attribute.")],
    name: Annotated[
        str, typer.Argument(help="The account's name or e-mail address; all but list and audit need it.")
    ] = "",
    *,
    email: Annotated[str, typer.Option("--email", help="For add: the e-mail address.")] = "",
    role: Annotated[
        list[str] | None, typer.Option("--role", help="For add and roles: a role; give it several times for several.")
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where the module is.")] = Path(),
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Show and change the accounts of an application. Running processes follow within a second.

    Example:  consona users roles shop.api:accounts ada --role staff

    A password is asked for, or read from standard input; it is never an argument, which others could see.
    Roles are given here and by the program's code, and by no request.
    """
    accounts = load(target, folder.resolve())
    if not hasattr(accounts, "authenticate"):
        raise ConfigurationError(
            f"{target!r} is no AuthenticationSystem.", hint="Name the object that has the accounts."
        )
    if not name and action not in {Action.LIST, Action.AUDIT}:
        raise ConfigurationError(f"Whose account? {action} needs a name.", hint=f"consona users {action} {target} NAME")
    password = _password() if action in {Action.ADD, Action.PASSWORD} else ""
    told = asyncio.run(_done(accounts, action, name, email=email, roles=role or [], password=password))
    terminal = Terminal(plain=plain)
    if as_json or action is Action.EXPORT:
        terminal.json(told)
    else:
        for line in told if isinstance(told, list) else [told]:
            terminal.say(_line(line))
    if action is Action.AUDIT and told and told[-1].get("whole") is False:
        raise typer.Exit(1)


async def _done(
    accounts: AuthenticationSystem, action: Action, name: str, *, email: str, roles: list[str], password: str
) -> Any:
    async with accounts:
        if action is Action.LIST:
            return [_told(account) async for account in accounts.all()]
        if action is Action.AUDIT:
            return await _audit(accounts)
        if action is Action.ADD:
            return _told(await accounts.register(name, email, password, roles=roles))
        account = await accounts.find(name)
        if account is None:
            raise NotFound(f"There is no account {name!r}.")
        actor = "command line"
        if action is Action.ROLES:
            account = await accounts.set_roles(account.id, roles, actor=actor)
        elif action is Action.PASSWORD:
            account = await accounts.set_password(account.id, password, actor=actor)
        elif action is Action.EXPORT:
            return await accounts.export(account.id)
        elif action is Action.RESET:
            await accounts.forgot_password(account.name)
        elif action is Action.DISABLE:
            account = await accounts.disable(account.id, actor=actor)
        elif action is Action.ENABLE:
            account = await accounts.enable(account.id, actor=actor)
        elif action is Action.UNLOCK:
            await accounts.unlock(account.id)
        elif action is Action.LOGOUT:
            return _told(account) | {"sessions_ended": await accounts.logout_everywhere(account.id)}
        elif action is Action.DELETE:
            await accounts.delete(account.id, actor=actor)
            return {"name": account.name, "state": "deleted"}
        sessions = await accounts.sessions(account.id)
        return _told(account) | ({"sessions": len(sessions)} if action is Action.SHOW else {})


async def _audit(accounts: AuthenticationSystem) -> list[dict[str, Any]]:
    entries = [
        {
            "number": entry.number,
            "at": _time(entry.happened_at),
            "event": entry.event,
            "account": entry.account,
            "actor": entry.actor,
            "address": entry.address,
        }
        async for entry in accounts.audit.entries()
    ]
    verdict = await accounts.audit.verify()
    return [*entries, {"entries": verdict.entries, "whole": verdict.whole, "problem": verdict.problem}]


def _told(account: Any) -> dict[str, Any]:
    return {
        "name": account.name,
        "id": account.id,
        "email": account.email,
        "roles": sorted(account.roles),
        "state": "active" if account.active else "disabled",
        "last_login": None if account.last_login is None else _time(account.last_login),
    }


def _line(told: dict[str, Any]) -> str:
    shown = (
        f"{name.replace('_', ' ')} {', '.join(value) if isinstance(value, list) else value}"
        for name, value in told.items()
        if value not in (None, "", [])
    )
    return "; ".join(shown)


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
