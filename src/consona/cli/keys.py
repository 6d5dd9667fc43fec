"""`consona keys`: the keys that sign tokens, in their file."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consona.cli.terminal import AsJSON, Plain, Terminal
from consona.errors import ConfigurationError

if TYPE_CHECKING:
    from consona.auth.key_file import KeyFile
    from consona.auth.key_ring import KeyRing

__all__ = ["keys"]


class Action(StrEnum):
    """What to do with the file."""

    SHOW = "show"
    ROTATE = "rotate"
    REMOVE = "remove"
    JWKS = "jwks"


def keys(
    action: Annotated[
        Action,
        typer.Argument(
            help="show the keys, rotate them, remove one that became known, or print the public ones (jwks)."
        ),
    ],
    file: Annotated[Path, typer.Argument(help="The key file; rotate makes it where there is none.")] = Path(
        "keys.json"
    ),
    *,
    key: Annotated[str, typer.Option("--key", help="For remove: the id of the key.")] = "",
    algorithm: Annotated[
        str,
        typer.Option("--algorithm", help="For rotate: EdDSA, ES256, RS256, PS256 or HS256; by default as before."),
    ] = "",
    lead: Annotated[
        float, typer.Option("--lead", help="For rotate: seconds until the new key signs, so that all have fetched it.")
    ] = 300.0,
    keep: Annotated[
        float, typer.Option("--keep", help="For rotate: seconds for which tokens of the old keys go on to count then.")
    ] = 86_405.0,
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Show or change the keys that sign tokens. Running processes follow within a second.

    Example:  consona keys rotate keys.json

    Rotate often enough that a stolen key is of little use, every few months say. No token ends by it. If a key
    became known to somebody, rotate with --lead 0, then remove it: whoever has one of its tokens signs in again.
    Private halves are never shown.
    """
    # Imported here: `consona --help` works without the packages that accounts need.
    from consona.auth.key_file import KeyFile  # noqa: PLC0415

    kept = KeyFile(file)
    terminal = Terminal(plain=plain)
    now = time.time()
    if action is Action.ROTATE:
        ring = kept.change(lambda ring: _rotated(ring, now, lead=lead, keep=keep, algorithm=algorithm))
    elif action is Action.REMOVE:
        ring = _remove(kept, key)
    else:
        ring = kept.load()
    if action is Action.JWKS:
        terminal.json(ring.jwks(now=now))
    elif as_json:
        terminal.json({"file": str(file), "keys": [_told(ring, id_, now) for id_ in ring.keys]})
    else:
        for id_ in ring.keys:
            told = _told(ring, id_, now)
            terminal.say(f"{told['id']}: {told['algorithm']}, {told['state']}")


def _rotated(ring: KeyRing | None, now: float, *, lead: float, keep: float, algorithm: str) -> KeyRing:
    from consona.auth.key_ring import KeyRing  # noqa: PLC0415 see above
    from consona.auth.keys import DEFAULT_ALGORITHM, SigningKey  # noqa: PLC0415 see above

    if not (0 <= lead < math.inf and 0 <= keep < math.inf):
        raise ConfigurationError("--lead and --keep are seconds from 0 upwards.")
    if ring is None:
        return KeyRing.of([SigningKey.generate(algorithm or DEFAULT_ALGORITHM, signs_from=now)])
    return ring.rotated(now=now, lead=lead, keep=keep, algorithm=algorithm)


def _remove(kept: KeyFile, key: str) -> KeyRing:
    if not key:
        raise ConfigurationError(
            "Which key is to be removed?", hint="Name it: --key ID. `consona keys show` lists them."
        )

    def without(ring: KeyRing | None) -> KeyRing:
        if ring is None:
            return kept.load()  # says that there is no file
        return ring.without(key)

    return kept.change(without)


def _told(ring: KeyRing, id_: str, now: float) -> dict[str, Any]:
    key = ring.keys[id_]
    try:
        signs = ring.signing(now).id == id_
    except ConfigurationError:
        signs = False
    if now > key.verifies_until:
        state = f"over since {_time(key.verifies_until)}"
    elif signs:
        state = "signs now"
    elif now < key.signs_from:
        state = f"signs from {_time(key.signs_from)}"
    else:
        state = "its tokens still count"
    if key.verifies_until < math.inf and now <= key.verifies_until:
        state += f", until {_time(key.verifies_until)}"
    return {"id": key.id, "algorithm": key.algorithm, "state": state, "signs": signs}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
