"""The tables of the queues in a SQLite file."""

from __future__ import annotations

from typing import Final

__all__ = ["STEPS"]

STEPS: Final = (
    """
    CREATE TABLE consona_queues (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        messages INTEGER NOT NULL DEFAULT 0,    -- rows of consona_queue
        priorities INTEGER NOT NULL DEFAULT 0   -- bit n: a message of priority n was put some time
    ) STRICT;
    CREATE TABLE consona_queue (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        free INTEGER NOT NULL,                  -- 0: waits for an earlier message of its key
        priority INTEGER NOT NULL,
        due REAL NOT NULL,                      -- when it can be taken; of a leased one: when its lease ends
        put_at REAL NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 0,
        token TEXT,                             -- of the newest lease; NULL: not held
        key TEXT,
        headers BLOB,                           -- a MessagePack map of texts; NULL for none
        failures BLOB,                          -- a MessagePack list; NULL for none
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX consona_queue_ready ON consona_queue (queue, priority, due) WHERE free = 1;
    CREATE INDEX consona_queue_keys ON consona_queue (queue, key, id) WHERE key IS NOT NULL;
    CREATE INDEX consona_queue_held ON consona_queue (queue, due) WHERE token IS NOT NULL;
    CREATE TABLE consona_queue_seen (           -- what is not put twice
        queue INTEGER NOT NULL,
        dedup TEXT NOT NULL,
        message INTEGER NOT NULL,               -- the first one's id
        until REAL NOT NULL,
        PRIMARY KEY (queue, dedup)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX consona_queue_seen_until ON consona_queue_seen (until);
    CREATE TABLE consona_queue_dead (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        id INTEGER NOT NULL UNIQUE,
        queue INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        put_at REAL NOT NULL,
        died_at REAL NOT NULL,
        reason TEXT NOT NULL,
        priority INTEGER NOT NULL,
        key TEXT,
        headers BLOB,
        failures BLOB,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX consona_queue_dead_of ON consona_queue_dead (queue, place);
    """,
)
