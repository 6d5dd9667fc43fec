"""The accounts, for whoever runs a system: who there is, where they are signed in, who is locked out, what happened.

    api.secure(accounts, AccountPages(accounts), AccountsPage(accounts, role="admin"))       # at /ops/accounts

It is a page of the server that has the accounts, behind a role; each action is in the audit log with who did it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2

from consona.auth.claims import Claims
from consona.errors import ConfigurationError, NotFound
from consona.ops.guarded import HEADERS
from consona.ops.pages import STATIC
from consona.rest.server.guards import CurrentUser
from consona.rest.server.requests import Request
from consona.rest.server.responses import Redirect, Response
from consona.rest.server.routing import Routes

if TYPE_CHECKING:
    from consona.auth.authentication_system import AuthenticationSystem
    from consona.rest.server.api_server import APIServer

__all__ = ["AccountsPage"]

SHOWN: Final = 100
EVENTS: Final = 50
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")

Action = Callable[[str, str], Awaitable[Any]]
"""Does something to an account (its id), in the name of another (its id)."""


class AccountsPage:
    """Shows the accounts and changes them; `api.secure(accounts, …, page)` adds it.

    Args:
        accounts: The accounts.
        role: Who may see it. Whoever has this role may disable accounts and end sessions.
        path: Where it is.

    Raises:
        ConfigurationError: There is no role, or the path is none.
    """

    def __init__(self, accounts: AuthenticationSystem, *, role: str, path: str = "/ops/accounts") -> None:
        if not role or not _PATH.fullmatch(path):
            raise ConfigurationError(
                "The page of accounts needs a role and a path.", hint='AccountsPage(accounts, role="admin")'
            )
        self.accounts = accounts
        self.role = role
        self.path = path
        self._env = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._env.filters["clock"] = _clock
        self.actions: Mapping[str, Action] = {
            "disable": lambda account, actor: accounts.disable(account, actor=actor),
            "enable": lambda account, actor: accounts.enable(account, actor=actor),
            "unlock": lambda account, actor: accounts.unlock(account, actor=actor),
            "logout": lambda account, actor: accounts.logout_everywhere(account, actor=actor),
        }

    def attach(self, api: APIServer) -> None:
        """Add the page; called by `api.secure`."""
        routes = Routes(self.path)
        roles = {self.role}

        @routes.get("", roles=roles, documented=False)
        async def overview(request: Request, start: str = "") -> Response:
            shown = await self.accounts.overview(start=start, limit=SHOWN + 1)
            more = shown[SHOWN].account.name if len(shown) > SHOWN else ""
            events = await self.accounts.audit.last(EVENTS)
            return self._draw(request, "accounts.html", shown=shown[:SHOWN], more=more, start=start, events=events)

        @routes.get("/style.css", roles=roles, documented=False)
        async def style() -> Response:
            sheet = STATIC["ops.css"]
            return Response(sheet.body, media_type=sheet.type, headers={"cache-control": "private, max-age=300"})

        @routes.get("/{id}", roles=roles, documented=False)
        async def one(request: Request, id: str, told: str = "") -> Response:  # noqa: A002 the name in the path
            return self._draw(
                request,
                "account.html",
                account=await self.accounts.get(id),
                locked=await self.accounts.locked(id),
                sessions=await self.accounts.sessions(id),
                events=await self.accounts.audit.last(EVENTS, account=id),
                told=told if told in self.actions else "",
            )

        @routes.post("/{id}/{action}", roles=roles, documented=False)
        async def act(request: Request, id: str, action: str, claims: CurrentUser[Claims]) -> Response:  # noqa: A002
            if action not in self.actions:
                raise NotFound("There is no such action.")
            await self.accounts.get(id)
            await self.actions[action](id, claims.subject)
            return Redirect(f"{self._root(request)}/{id}?told={action}", status=303)

        api.include(routes)

    def _root(self, request: Request) -> str:
        return f"{request.scope.get('root_path', '')}{self.path}"

    def _draw(self, request: Request, template: str, **values: Any) -> Response:
        html = self._env.get_template(template).render(root=self._root(request), role=self.role, **values)
        headers = {name.decode(): value.decode() for name, value in HEADERS} | {"cache-control": "no-store"}
        return Response(html, media_type="text/html; charset=utf-8", headers=headers)


def _clock(seconds: float | None) -> str:
    return "never" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
