"""Documents in a SQLite file: JSONB rows, expression indexes, and SQL for what SQL can answer."""

__all__: list[str] = []
