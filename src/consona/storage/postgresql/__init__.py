"""PostgreSQL: one engine for each address and event loop, and the `Store` on it."""
