"""The tables of accounts, made and brought up to date at the start. The same on each engine.

Times are seconds since the epoch. Nothing here is a password, a token or a key: hashes are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from consona.errors import ConfigurationError, QueryError

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["prepare"]

PART: Final = "accounts"
OLDEST_READER: Final = 1
TRIES: Final = 10

_NUMBERED: Final = {
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgresql": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "mysql": "BIGINT AUTO_INCREMENT PRIMARY KEY",
}
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS consona_schema"
    " (part VARCHAR(100) PRIMARY KEY, version INTEGER NOT NULL, oldest_reader INTEGER NOT NULL)"
)
STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE IF NOT EXISTS consona_accounts (
            id VARCHAR(40) PRIMARY KEY,
            name VARCHAR(100) NOT NULL,
            name_key VARCHAR(200) NOT NULL UNIQUE,
            email VARCHAR(254) NOT NULL,
            email_key VARCHAR(254) UNIQUE,
            email_verified DOUBLE PRECISION,
            password VARCHAR(300),
            roles VARCHAR(4000) NOT NULL,
            version BIGINT NOT NULL,
            active INTEGER NOT NULL,
            second_factor VARCHAR(300),
            second_factor_step BIGINT NOT NULL,
            recovery_codes VARCHAR(4000) NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            last_login DOUBLE PRECISION)""",
        """CREATE TABLE IF NOT EXISTS consona_sessions (
            id VARCHAR(40) PRIMARY KEY,
            account VARCHAR(40) NOT NULL,
            salt VARCHAR(64) NOT NULL,
            generation BIGINT NOT NULL,
            rotated_at DOUBLE PRECISION NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            last_seen DOUBLE PRECISION NOT NULL,
            expires_at DOUBLE PRECISION NOT NULL,
            device VARCHAR(200) NOT NULL,
            address VARCHAR(60) NOT NULL,
            ended_at DOUBLE PRECISION)""",
        "CREATE INDEX consona_sessions_account ON consona_sessions (account)",
        "CREATE INDEX consona_sessions_expires ON consona_sessions (expires_at)",
        """CREATE TABLE IF NOT EXISTS consona_revocations (
            number {numbered},
            kind VARCHAR(10) NOT NULL,
            name VARCHAR(255) NOT NULL,
            version BIGINT NOT NULL,
            until DOUBLE PRECISION NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS consona_guesses (
            name VARCHAR(80) PRIMARY KEY,
            guesses INTEGER NOT NULL,
            until DOUBLE PRECISION NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS consona_auth_settings (
            name VARCHAR(50) PRIMARY KEY,
            value VARCHAR(4000) NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS consona_audit (
            number BIGINT PRIMARY KEY,
            happened_at DOUBLE PRECISION NOT NULL,
            event VARCHAR(60) NOT NULL,
            account VARCHAR(40) NOT NULL,
            actor VARCHAR(255) NOT NULL,
            address VARCHAR(60) NOT NULL,
            detail VARCHAR(2000) NOT NULL,
            seal VARCHAR(64) NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS consona_audit_end (
            id INTEGER PRIMARY KEY,
            number BIGINT NOT NULL,
            seal VARCHAR(64) NOT NULL)""",
        "INSERT INTO consona_audit_end VALUES (1, 0, '')",
    ),
    (
        """CREATE TABLE IF NOT EXISTS consona_identities (
            issuer VARCHAR(255) NOT NULL,
            subject VARCHAR(255) NOT NULL,
            account VARCHAR(40) NOT NULL,
            provider VARCHAR(60) NOT NULL,
            email VARCHAR(254) NOT NULL,
            name VARCHAR(255) NOT NULL,
            linked_at DOUBLE PRECISION NOT NULL,
            last_login DOUBLE PRECISION NOT NULL,
            refresh_token VARCHAR(4000) NOT NULL,
            PRIMARY KEY (issuer, subject))""",
        "CREATE INDEX consona_identities_account ON consona_identities (account)",
    ),
    (
        """CREATE TABLE IF NOT EXISTS consona_api_keys (
            id VARCHAR(40) PRIMARY KEY,
            account VARCHAR(40) NOT NULL,
            name VARCHAR(100) NOT NULL,
            hash VARCHAR(64) NOT NULL,
            scopes VARCHAR(4000) NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            expires_at DOUBLE PRECISION,
            last_used DOUBLE PRECISION)""",
        "CREATE INDEX consona_api_keys_account ON consona_api_keys (account)",
    ),
)


async def prepare(db: SQLDatabase) -> None:
    """Make the tables, or bring them up to date. Processes that start at once do it once.

    Raises:
        ConfigurationError: A newer release made them, and this one cannot use them.
        QueryError: The database refused it.
    """
    for last in (*[False] * (TRIES - 1), True):
        try:
            await db.run_in_transaction(_steps, name="tables of accounts")
        except QueryError:
            # Two that make the same table at once: one of them is refused, and finds it the next time.
            if last:
                raise
        else:
            return


async def _steps(tx: Transaction) -> None:
    await tx.execute(_SCHEMA)
    row = await tx.fetch_one("SELECT version, oldest_reader FROM consona_schema WHERE part = ?", PART)
    version, oldest = (0, 0) if row is None else (row["version"], row["oldest_reader"])
    if oldest > len(STEPS):
        raise ConfigurationError(
            f"The tables of accounts have version {version}; this release of Consona knows {len(STEPS)}.",
            hint="Use the release that made them, or a newer one.",
        )
    if version >= len(STEPS):
        return
    if row is None:
        await tx.execute("INSERT INTO consona_schema VALUES (?, ?, ?)", PART, len(STEPS), OLDEST_READER)
    else:
        await tx.execute(
            "UPDATE consona_schema SET version = ?, oldest_reader = ? WHERE part = ?", len(STEPS), OLDEST_READER, PART
        )
    for statements in STEPS[version:]:
        for statement in statements:
            await tx.execute(statement.format(numbered=_NUMBERED[tx.dialect.name]))
