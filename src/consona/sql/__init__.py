"""SQL databases: one way to ask, on SQLite, PostgreSQL and MariaDB."""
