"""What our protocol uses of uvicorn beside its public interface, looked for before anything is served.

`http_protocol` adds limits to uvicorn's own protocol, so it knows some of its parts by name. A version that has
renamed one would serve strangers without a limit, or fail in the middle of a request: it is refused at start.
"""

from __future__ import annotations

from typing import Any, Final

from consona.errors import ConfigurationError

__all__ = ["TESTED", "check_internals"]

TESTED: Final = "uvicorn>=0.53,<1"
"""What the tests ran with (the oldest and the newest), as in pyproject.toml. Before 0.53, a body after
`Expect: 100-continue` that no handler read could be taken for a request."""

PROTOCOL: Final = frozenset(
    {
        *("config", "cycle", "expect_100_continue", "flow", "headers", "loop", "parser", "pipeline", "server_state"),
        *("transport", "url", "ws_protocol_class", "connection_made", "handle_websocket_upgrade", "on_body"),
        *("on_headers_complete", "on_message_begin", "on_message_complete", "on_response_complete", "_should_upgrade"),
    }
)
CYCLE: Final = frozenset(
    {
        *("disconnected", "keep_alive", "message_event", "more_body", "response_complete", "response_started"),
        *("transport", "on_response"),
    }
)
SERVER: Final = frozenset(
    {"config", "force_exit", "lifespan", "main_loop", "on_tick", "server_state", "servers", "should_exit", "shutdown"}
)


def check_internals() -> None:
    """Refuse a uvicorn that lacks what we use.

    Raises:
        ConfigurationError: It names what is missing, and what to install.
    """
    # Imported here, where a failure can be told in words.
    try:
        import uvicorn  # noqa: PLC0415
        from uvicorn.protocols.http import httptools_impl as http  # noqa: PLC0415

        lacks = [
            *([] if hasattr(http, "STATUS_LINE") else ["STATUS_LINE"]),
            *_lacking(http.HttpToolsProtocol, PROTOCOL),
            *_lacking(http.RequestResponseCycle, CYCLE),
            *_lacking(uvicorn.Server, SERVER),
        ]
    except (ImportError, AttributeError) as error:
        lacks = [str(error)]
    if lacks:
        raise ConfigurationError(
            f"This version of uvicorn cannot be used: it lacks {', '.join(lacks)}.", hint=f"pip install '{TESTED}'"
        )


def _lacking(kind: Any, names: frozenset[str]) -> list[str]:
    """Those of `names` that the class does not define, nor any of its methods sets or reads on an instance."""
    known = set(dir(kind))
    for member in vars(kind).values():
        code = getattr(member, "__code__", None)
        if code is not None:
            known.update(code.co_names)
    return sorted(f"{kind.__name__}.{name}" for name in names - known)
