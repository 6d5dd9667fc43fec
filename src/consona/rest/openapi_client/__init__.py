"""A typed client module from an OpenAPI document.

    module = generate(document, name="ShopClient")
    Path("shop_client.py").write_text(module.source, encoding="utf-8")

`consona client openapi.json` does the same. What is written depends on the document alone: the same
document gives the same bytes.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from consona.errors import ConfigurationError
from consona.rest.openapi_client.document import Document, InvalidDocument, Note, read_document
from consona.rest.openapi_client.module import write_module
from consona.rest.openapi_client.naming import BUILTINS, MODULE_NAMES, class_name, is_plain

__all__ = ["ClientModule", "InvalidDocument", "Note", "generate", "read_document"]

TAKEN: Final = BUILTINS | MODULE_NAMES


@dataclass(frozen=True, slots=True)
class ClientModule:
    """A module that was written."""

    name: str
    """Of the client class."""
    source: str
    """Formatted Python."""
    notes: tuple[Note, ...]
    """What in the document could not be followed, each with its JSON pointer."""


def generate(document: Mapping[str, Any] | bytes, *, name: str = "", label: str = "The document") -> ClientModule:
    """Write a client module.

    Args:
        document: A decoded OpenAPI 3.0 or 3.1 document, or its bytes (JSON, or YAML with PyYAML).
        name: Of the client class; by default from the document's title.
        label: What errors call the document.

    Raises:
        InvalidDocument: It is no such document; `fields` names each fault by its JSON pointer.
        ConfigurationError: The name cannot be one of a class.
        MissingExtra: It is YAML, and PyYAML is not there.

    Example:
        >>> module = generate({"openapi": "3.1.0", "info": {"title": "Shop"}, "paths": {}})
        >>> module.name, "class ShopClient(Operations):" in module.source
        ('ShopClient', True)
    """
    data = read_document(bytes(document), name=label) if isinstance(document, bytes) else document
    found = Document(data, name=label)
    if not name:
        title = found.part("info").get("title")
        name = class_name(title if isinstance(title, str) else "", fallback="HTTP", limit=32)
        name = name if name.endswith("Client") else f"{name}Client"
        name = f"{name}_" if name in TAKEN else name
    elif not is_plain(name) or keyword.issoftkeyword(name) or name in TAKEN:
        raise ConfigurationError(
            f"{name!r} cannot be the name of a class here.", hint="Letters and digits: ShopClient."
        )
    return ClientModule(name, write_module(found, name), tuple(found.notes))
