"""`consona client`: a typed client module from an OpenAPI document."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from consona.cli.terminal import AsJSON, Plain, Terminal
from consona.errors import ConfigurationError
from consona.rest.openapi_client import ClientModule, generate

__all__ = ["client"]

MARK: Final = "Written by `consona client`"
HEAD_BYTES: Final = 4000


def client(
    document: Annotated[Path, typer.Argument(help="The OpenAPI document, JSON or YAML; - reads standard input.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; without it, the module is printed.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The client class; by default from the document's title.")] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 if the file is not up to date.")
    ] = False,
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Write a typed, documented client module from an OpenAPI 3.0 or 3.1 document.

    Example:  consona client openapi.json --output shop_client.py --name ShopClient

    What of the document could not be followed is told on standard error, each with its JSON pointer.
    The exit code is 0 if the module was written, 1 if the document cannot be used.
    """
    if check and output is None:
        raise ConfigurationError("--check compares the module with a file.", hint="Name it: --output shop_client.py.")
    module = generate(_read(document), name=name, label=str(document))
    terminal = Terminal(plain=plain)
    if check and output is not None:
        _compare(module, output, terminal, as_json=as_json)
        return
    if output is None and not as_json:
        terminal.stream.write(module.source)
    if output is not None:
        _write(output, module.source)
    if as_json:
        terminal.json(_told(module) | ({"output": str(output)} if output else {"source": module.source}))
        return
    for note in module.notes:
        sys.stderr.write(f"Note: {note.pointer} {note.message}\n")
    if output is not None:
        lines = module.source.count("\n")
        terminal.say(f"Wrote {output}: {module.name}, {lines} lines, {len(module.notes)} notes.")


def _told(module: ClientModule) -> dict[str, object]:
    return {"name": module.name, "notes": [note._asdict() for note in module.notes]}


def _read(document: Path) -> bytes:
    if str(document) == "-":
        return sys.stdin.buffer.read()
    try:
        return document.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{document} cannot be read: {error.strerror or error}.", hint="Name the file of the OpenAPI document."
        ) from error


def _compare(module: ClientModule, output: Path, terminal: Terminal, *, as_json: bool) -> None:
    try:
        same = output.read_bytes() == module.source.encode()
    except OSError:
        same = False
    if as_json:
        terminal.json(_told(module) | {"output": str(output), "up_to_date": same})
    else:
        terminal.say(f"{output} is {'up to date' if same else 'not up to date: write it again'}.")
    raise typer.Exit(0 if same else 1)


def _write(output: Path, source: str) -> None:
    """Write it whole or not at all, and never over a file that somebody wrote by hand."""
    beside = output.with_name(f".{output.name}.new")
    try:
        if output.exists() and MARK not in output.read_text(encoding="utf-8", errors="replace")[:HEAD_BYTES]:
            raise ConfigurationError(
                f"{output} is there, and was not written by this command.", hint="Choose another name, or remove it."
            )
        beside.write_bytes(source.encode())
        beside.replace(output)
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror or error}.") from error
    finally:
        beside.unlink(missing_ok=True)
