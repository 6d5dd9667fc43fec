"""Writes docs/reference/errors.md: one entry for each error code, from the classes themselves.

Run it after adding an error. A test fails while the page is not up to date.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import consona
from consona.errors import ConsonaError

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "errors.md"
BEGIN = """\
# Errors

Every error that Consona raises on purpose is a `ConsonaError`.
Catch it, and you catch them all. Each class below has one code, and a code never changes its meaning.

Every error has these attributes:

- `code`: the name of the kind of error, as in the headings below.
- `message`: what was wrong, and where.
- `hint`: what to do about it.
- `status`: the HTTP status that a Consona server answers with.
- `retryable`: whether the same call may work later.
- `retry_after`: how many seconds to wait before that, or `None` where nobody knows.
- `context`: names, sizes and counts that help to find the cause. It never holds a secret.

`str(error)` is the message and the hint. How to handle errors is told in [Handle errors](../how-to/errors.md).

This page is made from the classes by `scripts/errors_page.py`.
"""


def classes() -> list[type[ConsonaError]]:
    """All errors of the package, each before those that derive from it."""
    for found in pkgutil.walk_packages(consona.__path__, "consona."):
        if not found.name.startswith("consona.cli"):
            importlib.import_module(found.name)

    def below(cls: type[ConsonaError]) -> list[type[ConsonaError]]:
        return [cls, *(deeper for sub in sorted(cls.__subclasses__(), key=lambda c: c.code) for deeper in below(sub))]

    return [cls for cls in below(ConsonaError) if cls.__module__.startswith("consona.")]


def prose(cls: type[ConsonaError]) -> str:
    """The docstring up to its first section (`Args:`, `Example:`, …)."""
    return re.split(r"\n\n?(?=[A-Z][a-z]+:\n)", inspect.cleandoc(cls.__doc__ or ""), maxsplit=1)[0].strip()


def entry(cls: type[ConsonaError]) -> str:
    retry = "yes, Consona's policies may try again" if cls.retryable else "no"
    parent = cls.__mro__[1]
    lines = [
        f"## {cls.code}",
        prose(cls),
        "\n".join((
            f"- Class: `{cls.__module__}.{cls.__name__}`",
            *([f"- Kind of: [`{parent.__name__}`](#{anchor(parent)})"] if issubclass(parent, ConsonaError) else []),
            f"- HTTP status: {status(cls)}",
            f"- Worth a retry: {retry}",
        )),
    ]
    if cls.hint:
        lines.append(f"**What to do.** {cls.hint}")
    return "\n\n".join(line for line in lines if line)


def status(cls: type[ConsonaError]) -> str:
    given = "status" in inspect.signature(cls).parameters
    return "that of the answer, 400 to 599" if given else str(cls.status)


def anchor(cls: type[ConsonaError]) -> str:
    return re.sub(r"[^\w\s-]", "", cls.code).replace(" ", "-")


def page() -> str:
    seen: dict[str, type[ConsonaError]] = {}
    for cls in classes():
        seen.setdefault(cls.code, cls)
    return BEGIN + "\n" + "\n\n".join(entry(cls) for cls in seen.values()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE.name}.")
