"""The tables of accounts, made and brought up to date at the start. The same on each engine.

Times are seconds since the epoch. Nothing here is a password, a token or a key: hashes are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from consona.sql import own_tables

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase

__all__ = ["prepare"]

PART: Final = "accounts"
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
    (
        """CREATE TABLE IF NOT EXISTS consona_links (
            id VARCHAR(40) PRIMARY KEY,
            account VARCHAR(40) NOT NULL,
            purpose VARCHAR(20) NOT NULL,
            email VARCHAR(254) NOT NULL,
            hash VARCHAR(64) NOT NULL,
            expires_at DOUBLE PRECISION NOT NULL)""",
        "CREATE INDEX consona_links_account ON consona_links (account)",
        "CREATE INDEX consona_links_expires ON consona_links (expires_at)",
    ),
)


async def prepare(db: SQLDatabase) -> None:
    """Make the tables, or bring them up to date.

    Raises:
        ConfigurationError: A newer release made them, and this one cannot use them.
        QueryError: The database refused it.
    """
    await own_tables.prepare(db, PART, STEPS)
