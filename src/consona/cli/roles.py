"""`consona roles`: who may do what in an application, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from consona.cli.loading import load
from consona.cli.terminal import AsJSON, Plain, Terminal
from consona.errors import ConfigurationError

__all__ = ["roles"]


def roles(
    target: Annotated[
        str, typer.Argument(help="The server, as module:attribute; its accounts or guard know the roles.")
    ],
    *,
    folder: Annotated[Path, typer.Option("--folder", help="Where the module is.")] = Path(),
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Show each role with its permissions, and for each route who may call it. Nothing is started.

    Example:  consona roles shop.api:api
    """
    # Imported here: `consona --help` works without the packages that accounts need.
    from consona.auth.access import access_table  # noqa: PLC0415

    api = load(target, folder.resolve())
    guard = getattr(api, "guard", None)
    if guard is None or not hasattr(guard, "roles"):
        raise ConfigurationError(
            f"{target!r} has no accounts.", hint="Name an APIServer that api.secure(...) was called on."
        )
    told: dict[str, Any] = {
        "roles": {
            role.name: {"inherits": sorted(role.inherits), "permissions": sorted(role.permissions)}
            for role in guard.roles
        },
        "routes": [{"method": each.method, "path": each.path, "open_to": each.words} for each in access_table(api)],
    }
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json(told)
        return
    for name, role in told["roles"].items():
        inherits = f"; inherits {', '.join(role['inherits'])}" if role["inherits"] else ""
        terminal.say(f"role {name}: {', '.join(role['permissions']) or 'no permission of its own'}{inherits}")
    for route in told["routes"]:
        terminal.say(f"{route['method']} {route['path']}: {route['open_to']}")
