"""For tests of written clients: make one from a document, and have it as a module."""

from __future__ import annotations

import itertools
import sys
import types
from typing import Any

from consona.rest.openapi_client import generate

_NUMBERS = itertools.count()


def document(paths: Any = None, schemas: Any = None, *, version: str = "3.1.0", **more: Any) -> dict[str, Any]:
    """A small document."""
    found = {"openapi": version, "info": {"title": "Test", "version": "1"}, "paths": paths or {}, **more}
    if schemas is not None:
        found["components"] = {"schemas": schemas, **more.get("components", {})}
    return found


def answering(schema: Any, *, version: str = "3.1.0", **schemas: Any) -> dict[str, Any]:
    """A document with one operation, `read`, that answers with a schema."""
    responses = {"200": {"description": "", "content": {"application/json": {"schema": schema}}}}
    return document({"/x": {"get": {"operationId": "read", "responses": responses}}}, schemas, version=version)


def load(source: str) -> types.ModuleType:
    """Run the source as a module of its own."""
    module = types.ModuleType(f"written_{next(_NUMBERS)}")
    sys.modules[module.__name__] = module  # msgspec looks up annotations there
    exec(compile(source, module.__name__, "exec"), module.__dict__)
    return module


def written(document: Any, **options: Any) -> types.ModuleType:
    """The module of a document; `module.client` is its client class."""
    made = generate(document, **options)
    module = load(made.source)
    module.__dict__["client"] = module.__dict__[made.name]
    module.__dict__["notes"] = made.notes
    module.__dict__["source"] = made.source
    return module
