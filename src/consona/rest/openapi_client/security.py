"""The security schemes of a document, as functions that make the credentials of an `APIClient`.

Source: OpenAPI 3.1.1, "Security Scheme Object".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from consona.rest.openapi_client.document import Document, child
from consona.rest.openapi_client.naming import Names, snake_name
from consona.rest.openapi_client.python_text import literal

__all__ = ["Scheme", "read_schemes"]


@dataclass(slots=True)
class Scheme:
    """One way to show who is asking."""

    name: str
    """Of the function."""
    kind: str
    """The class that it returns."""
    parameters: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    doc: list[str] = field(default_factory=list)


def read_schemes(document: Document, base: str, names: Names) -> list[Scheme]:
    """The schemes that a client of ours can use; the others are noted."""
    found = []
    for key in document.part("components", "securitySchemes"):
        pointer = child("#/components/securitySchemes", key)
        raw, place = document.resolve(document.part("components", "securitySchemes")[key], pointer)
        for scheme in _of(document, raw, place, base):
            scheme.name = names.take(f"auth_{snake_name(key, fallback='scheme')}")
            text = raw.get("description")
            scheme.doc = [
                f"Credentials for the security scheme {key!r}.",
                text if isinstance(text, str) else "",
                *scheme.doc,
            ]
            found.append(scheme)
    return found


def _of(document: Document, raw: dict[str, Any], pointer: str, base: str) -> Iterator[Scheme]:
    kind, how = raw.get("type"), str(raw.get("scheme", "")).lower()
    if kind == "http" and how == "basic":
        yield Scheme("", "Basic", ["username: str", "password: str"], ["username", "password"])
    elif kind == "http" and how == "bearer":
        yield Scheme("", "Bearer", ["token: str"], ["token"])
    elif kind == "apiKey" and raw.get("in") == "header" and isinstance(raw.get("name"), str):
        yield Scheme("", "APIKey", ["key: str"], ["key", f"header={literal(raw['name'])}"])
    elif kind == "oauth2":
        yield _oauth(raw, base)
    elif kind == "openIdConnect":
        yield Scheme("", "Bearer", ["token: str"], ["token"], ["Log in at the provider, and hand in the access token."])
    elif kind == "apiKey":
        document.note(pointer, f"wants a key in the {str(raw.get('in'))[:20]}, where credentials are not put")
    elif kind == "mutualTLS":
        document.note(
            pointer, "wants a client certificate: hand in an APIClient with ConnectionSettings(tls=TLS(cert=…))"
        )
    else:
        document.note(pointer, f"is of a kind that is not known: {str(kind)[:20]} {how[:20]}".rstrip())


def _oauth(raw: dict[str, Any], base: str) -> Scheme:
    flows = raw.get("flows")
    flow = flows.get("clientCredentials") if isinstance(flows, dict) else None
    if not isinstance(flow, dict) or not isinstance(flow.get("tokenUrl"), str):
        words = "Get an access token by one of its flows, and hand it in."
        return Scheme("", "Bearer", ["token: str"], ["token"], [words])
    url = urljoin(base, flow["tokenUrl"])
    scopes = flow.get("scopes")
    known = [f"- `{name}`: {text}" for name, text in scopes.items()] if isinstance(scopes, dict) else []
    parameters = ["client_id: str", "client_secret: str", "*", 'scope: str = ""']
    given = ["client_id", "client_secret", "scope=scope"]
    doc = ["\n".join(["Scopes, separated by spaces:", "", *known])] if known else []
    if not url.startswith(("http://", "https://")):  # relative, and nobody knows to what
        return Scheme("", "ClientCredentials", ["token_url: str", *parameters], ["token_url", *given], doc)
    return Scheme("", "ClientCredentials", parameters, [literal(url), *given], doc)
