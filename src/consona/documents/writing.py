"""What a write does to one document, the same on every engine."""

from __future__ import annotations

from consona.documents.document import checked_document
from consona.documents.engine import Check, Delete, Found, Modify
from consona.documents.errors import DocumentChanged
from consona.documents.updates import upserted
from consona.documents.values import Document, copied

__all__ = ["changed_document", "new_document", "require_version"]


def changed_document(found: Document, write: Modify, check: Check | None) -> Document | None:
    """The document after a change, or None where it stays as it is. `found` itself is not touched.

    Raises:
        OperatorError: The update does not fit the document.
        DocumentRefused: What comes out cannot be kept.
    """
    place = write.filter.place(found) if write.change.needs_place else None
    document = copied(found)
    if not write.change.apply(document, place=place):
        return None
    document = checked_document(document)
    if check is not None:
        check(document)
    return document


def new_document(write: Modify, check: Check | None) -> Document:
    """The document that an upsert inserts."""
    document = upserted(write.filter, write.change)
    if check is not None:
        check(document)
    return document


def require_version(found: Found, write: Modify | Delete) -> None:
    """Refuse a write that was meant for another version of the document.

    Raises:
        DocumentChanged: The versions differ.
    """
    if write.if_match is not None and write.if_match != found.version:
        raise DocumentChanged(
            f"The document has version {found.version} by now, not {write.if_match}.", version=found.version
        )
