"""Names from a document, made into names of Python: identifiers, each once, and none that hides another."""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from typing import Final

__all__ = ["MODULE_NAMES", "Names", "class_name", "is_plain", "snake_name", "to_identifier"]

MAX_LENGTH: Final = 40

MODULE_NAMES: Final = frozenset(
    {
        "APIClient", "APIKey", "Any", "Authentication", "Basic", "Bearer", "Client", "ClientCredentials", "Content",
        "Literal", "Operations", "Policy", "Query", "Self", "Struct", "TypeAlias", "UNSET", "UnsetType", "annotations",
        "datetime", "decimal", "uuid",
    }
)  # fmt: skip
"""What the written module imports."""
TYPE_NAMES: Final = frozenset({"bool", "bytes", "dict", "float", "int", "list", "str"})
"""Built-in names that annotations use: a field or method of that name would hide them."""

_WORDS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+|[0-9]+|[^\W_]+")


def is_plain(name: str) -> bool:
    """Whether a name can stand in Python as it is: an ASCII identifier, no keyword, and nothing private."""
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")


def to_identifier(text: str, *, fallback: str = "value") -> str:
    """An identifier that resembles any text.

    Example:
        >>> to_identifier("x-request-id"), to_identifier("class"), to_identifier("2fa"), to_identifier("$ref")
        ('x_request_id', 'class_', 'n2fa', 'ref')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    name = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_") if not is_plain(plain) else plain
    name = name[:MAX_LENGTH].rstrip("_") or fallback
    if name[0].isdigit():
        name = f"n{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def words_of(text: str) -> list[str]:
    """The words that a name is made of, in whatever case it is written."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    return _WORDS.findall(re.sub(r"[^A-Za-z0-9]+", " ", plain))


def snake_name(text: str, *, fallback: str = "call") -> str:
    """A name for a function.

    Example:
        >>> snake_name("getUserById"), snake_name("GET /users/{id}"), snake_name("import")
        ('get_user_by_id', 'get_users_id', 'import_')
    """
    return to_identifier("_".join(word.lower() for word in words_of(text)), fallback=fallback)


def class_name(text: str, *, fallback: str = "Item") -> str:
    """A name for a class.

    Example:
        >>> class_name("pet-store item"), class_name("io.k8s.LeaseSpec"), class_name("URLShortener")
        ('PetStoreItem', 'IoK8sLeaseSpec', 'URLShortener')
    """
    joined = "".join(word[0].upper() + word[1:] for word in words_of(text))[:MAX_LENGTH]
    name = joined or fallback
    return f"N{name}" if name[0].isdigit() else f"{name}_" if name in {"None", "True", "False"} else name


class Names:
    """Gives out each name once: a second one gets a number.

    Example:
        >>> names = Names({"self"})
        >>> names.take("id"), names.take("id"), names.take("self")
        ('id', 'id_2', 'self_2')
    """

    def __init__(self, taken: set[str] | frozenset[str] = frozenset()) -> None:
        self._taken = set(taken)

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def take(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted.rstrip('_')}_{number}", number + 1
        self._taken.add(name)
        return name


BUILTINS: Final = frozenset(dir(builtins))
"""A class or an alias of one of these names would hide it from the whole module."""
