"""Names of files that come from elsewhere, made harmless."""

from __future__ import annotations

__all__ = ["safe_name"]


def safe_name(filename: str) -> str:
    """The last part of a path of any system, without control characters and without dots in front; `file` if empty."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    name = "".join(letter for letter in name if letter.isprintable()).strip(" ").lstrip(".").rstrip(". ")
    while len(name.encode()) > 200:
        stem, dot, ending = name.rpartition(".")
        name = f"{stem[:-1]}{dot}{ending}" if stem and len(ending) < 20 else name[:-1]
    return name or "file"
