"""The rows of an answer as an Arrow table. Needs `consona[arrow]`; loaded when it is first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pyarrow as pa

from consona.errors import ConfigurationError, FieldProblem, ValidationError
from consona.sql.engine import Rows

__all__ = ["table_of"]


def table_of(found: Rows, schema: pa.Schema | None) -> pa.Table:
    """A table with these rows. Takes a while for many of them: call it on a thread.

    Raises:
        ValidationError: A column has values that do not go together, or not with its type.
        ConfigurationError: The schema has other columns than the answer.
    """
    if schema is not None and not isinstance(schema, pa.Schema):
        raise ConfigurationError(f"schema= is a pyarrow.Schema, not {type(schema).__name__}.")
    if schema is not None and tuple(schema.names) != found.columns:
        raise ConfigurationError(
            f"The schema has the columns {', '.join(schema.names)}; the answer has {', '.join(found.columns)}.",
            hint="Name all columns, in the order in which they are selected.",
        )
    columns = list(zip(*found.rows, strict=True)) or [()] * len(found.columns)
    types = [None] * len(columns) if schema is None else schema.types
    arrays = [_array(name, values, kind) for name, values, kind in zip(found.columns, columns, types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema) if schema else pa.Table.from_arrays(arrays, names=found.columns)


def _array(name: str, values: Sequence[Any], kind: pa.DataType | None) -> pa.Array:
    values = [str(value) if isinstance(value, UUID) else value for value in values]  # of which it knows no type
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        problem = f"holds {', '.join(kinds)}, which is no column {'of one type' if kind is None else f'of {kind}'}"
        raise ValidationError(
            f"The column {name!r} {problem}.",
            fields=[FieldProblem(name, problem)],
            hint="CAST it in the statement, or give schema= with another type.",
        ) from error
