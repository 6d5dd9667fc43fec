"""A real SMTP server (aiosmtpd) for the tests, which can be slow, picky or broken on purpose."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import asynccontextmanager

from aiosmtpd.smtp import SMTP, AuthResult

from certificates import server_context
from consona.mail import Mailer

USER, SECRET = "shop", "kohlrabi-secret"


class Postbox:
    """What the server does with mails; it keeps them, as text, in `mails`."""

    def __init__(self, *, refuses=(), answers=(), breaks=0, silent=False):
        self.mails, self.envelopes, self.connections = [], [], 0
        self.refuses = refuses
        self.answers = list(answers)
        """What it says to the next mails instead of taking them."""
        self.breaks = breaks
        """So many times it takes a whole mail and breaks the connection without a word."""
        self.silent = silent

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refuses:
            return f"550 5.1.1 No such user here: {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.silent:
            await asyncio.Event().wait()
        if self.answers:
            return self.answers.pop(0)
        self.mails.append(envelope.content.decode())
        self.envelopes.append(envelope)
        if self.breaks:
            self.breaks -= 1
            server.transport.abort()
        return "250 Taken"


def _login(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (USER.encode(), SECRET.encode()), handled=False)


@asynccontextmanager
async def smtp_server(postbox, *, tls="", auth=False, port=0, name="localhost"):
    """An SMTP server on loopback; gives its port. `tls` is `starttls` or `smtps`."""
    context = server_context(name) if tls else None
    servers = []

    def protocol():
        postbox.connections += 1
        more = {"authenticator": _login, "auth_required": True} if auth else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that passwords in the clear are unwise
            server = SMTP(
                postbox,
                hostname="tests",
                enable_SMTPUTF8=True,
                tls_context=context if tls == "starttls" else None,
                require_starttls=tls == "starttls",
                auth_require_tls=tls == "starttls",
                loop=asyncio.get_running_loop(),
                **more,
            )
        servers.append(server)
        return server

    loop = asyncio.get_running_loop()
    listening = await loop.create_server(protocol, "127.0.0.1", port, ssl=context if tls == "smtps" else None)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for server in servers:
            if server.transport is not None:
                server.transport.abort()
        await asyncio.sleep(0)


def mailer_to(port, **more):
    return Mailer(f"smtp://127.0.0.1:{port}?tls=off", sender="Shop <shop@example.org>", **more)
