"""Where data is kept: one engine for each SQLite file, and `Store`, keys and values on any engine."""
