"""What a server underneath calls: requests, WebSockets and the lifespan.

Source: ASGI specification 3.0, https://asgi.readthedocs.io.
"""

from __future__ import annotations

import asyncio
import logging

from consona.errors import ConfigurationError
from consona.part import Part
from consona.rest.server.mounting import as_specified
from consona.rest.server.open_requests import UNTIMED
from consona.rest.server.problems import HTTPError, ServiceUnavailable, problem_response
from consona.rest.server.requests import ClientGone, Request
from consona.rest.server.responses import Encoded, Receive, Scope, Send
from consona.rest.server.serving import DEADLINE_HEADER, Serving
from consona.rest.server.websocket_serving import denying, serve_websocket
from consona.telemetry.observer import Operation

__all__ = ["ASGIApplication"]

log = logging.getLogger("consona.rest.server")


def _level(status: int) -> int:
    """What a failed answer is worth in the log: the mistakes of clients are theirs."""
    return logging.WARNING if status >= 500 else logging.DEBUG


class ASGIApplication(Part):
    """A part that is an ASGI 3 application."""

    draining: bool
    _serving: Serving | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection.

        Every request walks here, so what it does is written out: each call less is a hundredth of it.
        """
        serving = self._serving
        if serving is None or scope["type"] != "http" or "litestar_app" in scope:
            serving, scope = await self._unusual(scope, receive, send)
            if serving is None:
                return
        route, segments = serving.find(scope)
        fields: dict[bytes, bytes] = dict(scope["headers"])
        request = Request(scope, serving, route, segments, fields, receive)
        task = asyncio.current_task()
        assert task is not None
        op = failure = deadline = None
        if route.series is not None:
            parent = serving._parent(request) if b"traceparent" in fields else None
            op = Operation(serving.observer, route.series, parent).__enter__()
        if DEADLINE_HEADER in fields or route.own_timeout:
            deadline = serving._announce(request, task)
        else:
            serving.open[task] = until = serving._clock() + serving._timeout_s
            if serving._timer.timer is None:
                serving._timer.arm(until)
        try:
            try:
                if (
                    len(scope["headers"]) > serving._max_headers
                    or len(b"".join(fields.values())) > serving._max_header_bytes
                    or len(serving.open) > serving._max_open
                    or (deadline is not None and deadline.remaining() <= 0)
                ):
                    serving._refuse(request)
                response = await (route.respond(request) if serving._chain is None else serving._chain(request))
            except Exception as error:  # noqa: BLE001 whatever it is, it is answered
                response = await serving.recover(error, request)
            except asyncio.CancelledError as error:
                if serving._timer.was_cut(task) if deadline is None else deadline.finish(error):
                    late = serving._too_late(request)
                else:
                    request._background = None  # the handler did not get to its end
                    if not serving.stopping.is_set() or task.uncancel():
                        raise
                    late = serving._stopped()
                response = await serving.recover(late, request)
            finally:  # how long the answer takes to send is the client's matter
                serving.open[task] = UNTIMED
                if deadline is not None:
                    deadline.leave()
                elif serving._timer.cut:
                    serving._timer.was_cut(task)
            if response.__class__ is Encoded:  # `Response.__call__`, written out
                headers, body = response.raw_headers, response.body
                headers.append((b"content-length", b"%d" % len(body)))
                if request._id or b"x-request-id" in fields:
                    headers.append(request.id_header)
                await send({"type": "http.response.start", "status": response.status, "headers": headers})
                await send({"type": "http.response.body", "body": body if route.method != "HEAD" else b""})
            else:
                await response(request, send)
            if op is not None:
                op.attributes = {"status": response.status}
                if response.status >= 400:
                    op.fail(f"http.{response.status}", level=_level(response.status))
        except ClientGone:  # in the middle of an answer that was made of its request
            if op is not None:
                op.fail("http.499", level=_level(499))
        except BaseException as error:
            failure = error
            raise
        finally:
            serving.open.pop(task, None)
            if op is not None:
                op.__exit__(None if failure is None else type(failure), failure, None)
            failure = None  # its traceback holds this frame: together they would wait for the garbage collector
            if request.mounted is not None:
                serving.background.end(request.mounted)
            if request._background is not None or request._form is not None:
                serving.background.begin(request)  # also where the answer did not reach the client

    def note_refusal(self, error: HTTPError) -> None:
        """Count what the server underneath refused before it was a request."""
        with self.observer.operation("REFUSED", "(connection)") as op:
            op.set(status=error.status)
            op.fail(f"http.{error.status}", level=_level(400))

    async def _unusual(self, scope: Scope, receive: Receive, send: Send) -> tuple[Serving | None, Scope]:
        """All but a plain request to a started server. None where that is done with."""
        kind = scope["type"]
        if "litestar_app" in scope and kind != "lifespan":
            scope = as_specified(scope)
        if kind == "http":
            return self._serving or await self._late_start(send), scope
        if kind == "lifespan":
            await self._run_lifespan(receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)
        else:
            raise ConfigurationError(f"{self.name} cannot serve the ASGI scope type {kind!r}.")
        return None, scope

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:
            log.exception("%s did not start.", self.name)
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await self.stop()
        except Exception as error:
            log.exception("%s did not stop cleanly.", self.name)
            await send({"type": "lifespan.shutdown.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def _late_start(self, send: Send) -> Serving | None:
        """Start at the first request, under an application that passes no lifespan on."""
        if self.draining:
            error = ServiceUnavailable("The server has stopped.", retry_after=1)
        else:
            try:
                await self._start_once()
                return self._serving
            except Exception:
                log.exception("%s did not start.", self.name)
                error = ServiceUnavailable("The server could not start.", retry_after=5)
        response = problem_response(error, request_id="")
        body = {"type": "http.response.body", "body": response.body}
        await send({"type": "http.response.start", "status": 503, "headers": response.raw_headers})
        await send(body)
        return None

    async def _start_once(self) -> None:
        await self.start()
        if self._users > 1:  # another request was faster
            await self.stop()
            return
        log.warning(
            "%s was started by its first request, since the application around it passes no lifespan on. "
            "It will not be stopped either: pass lifespan=api.lifespan to that application.",
            self.name,
        )

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        serving = self._serving or await self._late_start(denying(scope, send))
        if serving is not None:
            await serve_websocket(serving, scope, receive, send)
