"""The tables of the queues in a PostgreSQL database, and the functions that change several of them at once.

A function sees what others committed before each of its statements, which a single statement does not: so
the row of a key, locked first, puts those who put and settle its messages in one line.
"""

from __future__ import annotations

from typing import Final

__all__ = ["STEPS"]

_TABLES: Final = (
    'CREATE TABLE consona_queues (name text COLLATE "C" PRIMARY KEY)',
    """CREATE TABLE consona_queue (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        queue text COLLATE "C" NOT NULL,
        free boolean NOT NULL,                  -- false: waits for an earlier message of its key
        priority smallint NOT NULL,
        due double precision NOT NULL,          -- when it can be taken; of a leased one: when its lease ends
        put_at double precision NOT NULL,
        attempt integer NOT NULL DEFAULT 0,
        token text,                             -- of the newest lease; NULL: not held
        key text COLLATE "C",
        headers bytea,                          -- a MessagePack map of texts; NULL for none
        failures jsonb NOT NULL DEFAULT '[]',
        body bytea NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)""",
    "CREATE INDEX consona_queue_ready ON consona_queue (queue, priority, due, id) WHERE free",
    "CREATE INDEX consona_queue_of_key ON consona_queue (queue, key, id) WHERE key IS NOT NULL",
    "CREATE INDEX consona_queue_held ON consona_queue (queue, due) WHERE token IS NOT NULL",
    """CREATE TABLE consona_queue_keys (
        queue text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        messages bigint NOT NULL,               -- rows of consona_queue with this key
        PRIMARY KEY (queue, key)
    ) WITH (fillfactor = 70)""",
    """CREATE TABLE consona_queue_seen (          -- what is not put twice
        queue text COLLATE "C" NOT NULL,
        dedup text COLLATE "C" NOT NULL,
        message bigint NOT NULL,                -- the first one's id
        until double precision NOT NULL,
        PRIMARY KEY (queue, dedup)
    )""",
    "CREATE INDEX consona_queue_seen_until ON consona_queue_seen (until)",
    """CREATE TABLE consona_queue_dead (
        place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id bigint NOT NULL UNIQUE,
        queue text COLLATE "C" NOT NULL,
        attempt integer NOT NULL,
        put_at double precision NOT NULL,
        died_at double precision NOT NULL,
        reason text NOT NULL,
        priority smallint NOT NULL,
        key text COLLATE "C",
        headers bytea,
        failures jsonb NOT NULL,
        body bytea NOT NULL
    )""",
    "CREATE INDEX consona_queue_dead_of ON consona_queue_dead (queue, place)",
)

# Keys are locked in one order by everybody, so that nobody waits in a circle.
_PUT: Final = """
    CREATE FUNCTION consona_queue_put(
        in_queue text, now double precision, priorities integer[], delays double precision[], keys text[],
        dedups text[], windows double precision[], all_headers bytea[], bodies bytea[])
    RETURNS SETOF bigint LANGUAGE plpgsql AS $$
    DECLARE
        n integer;
        name bigint;
        earlier bigint;
    BEGIN
        INSERT INTO consona_queue_keys AS k
            SELECT in_queue, key, 0 FROM unnest(keys) AS key WHERE key IS NOT NULL GROUP BY key ORDER BY key
            ON CONFLICT (queue, key) DO UPDATE SET messages = k.messages;
        FOR n IN 1 .. cardinality(bodies) LOOP
            IF dedups[n] IS NOT NULL THEN
                INSERT INTO consona_queue_seen AS s VALUES (in_queue, dedups[n], 0, now + windows[n])
                    ON CONFLICT (queue, dedup) DO UPDATE SET message = 0, until = excluded.until WHERE s.until <= now;
                IF NOT FOUND THEN
                    RETURN NEXT (SELECT message FROM consona_queue_seen WHERE queue = in_queue AND dedup = dedups[n]);
                    CONTINUE;
                END IF;
            END IF;
            earlier := 0;
            IF keys[n] IS NOT NULL THEN
                UPDATE consona_queue_keys SET messages = messages + 1 WHERE queue = in_queue AND key = keys[n]
                    RETURNING messages - 1 INTO earlier;
            END IF;
            INSERT INTO consona_queue (queue, free, priority, due, put_at, key, headers, body)
                VALUES (in_queue, earlier = 0, priorities[n], now + delays[n], now, keys[n], all_headers[n], bodies[n])
                RETURNING id INTO name;
            IF dedups[n] IS NOT NULL THEN
                UPDATE consona_queue_seen SET message = name WHERE queue = in_queue AND dedup = dedups[n];
            END IF;
            RETURN NEXT name;
        END LOOP;
        DELETE FROM consona_queue_keys WHERE queue = in_queue AND key = ANY (keys) AND messages = 0;
    END $$"""

_NEXT: Final = """
    CREATE FUNCTION consona_queue_next(in_queue text, of_key text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        still bigint;
    BEGIN
        UPDATE consona_queue_keys SET messages = messages - 1 WHERE queue = in_queue AND key = of_key
            RETURNING messages INTO still;
        IF still > 0 THEN
            UPDATE consona_queue SET free = true WHERE id = (
                SELECT id FROM consona_queue WHERE queue = in_queue AND key = of_key ORDER BY id LIMIT 1);
        ELSE
            DELETE FROM consona_queue_keys WHERE queue = in_queue AND key = of_key;
        END IF;
    END $$"""

# A plan that was made while the table was small is kept; this keeps it from reading the whole table when it is large.
_BY_INDEX: Final = "SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off"

# Each priority has its place in the index, so that what waits or is held in one is not in the way of the others.
# One step of priority counts as much as a minute of waiting.
_TAKE: Final = f"""
    CREATE FUNCTION consona_queue_take(
        in_queue text, now double precision, most integer, lease double precision, new_token text)
    RETURNS TABLE (id bigint, body bytea, headers bytea, attempt integer, put_at double precision,
        due double precision, token text, priority smallint, key text, failures text)
    LANGUAGE sql {_BY_INDEX} AS $$
        WITH ready AS MATERIALIZED (
            SELECT found.id, found.due - 60 * p.priority AS rank
            FROM generate_series(0, 9) AS p (priority), LATERAL (
                SELECT q.id, q.due FROM consona_queue AS q
                WHERE q.queue = in_queue AND q.priority = p.priority AND q.free AND q.due <= now
                ORDER BY q.due, q.id LIMIT most FOR UPDATE SKIP LOCKED) AS found),
        chosen AS MATERIALIZED (SELECT ready.id, ready.rank FROM ready ORDER BY ready.rank, ready.id LIMIT most),
        taken AS (
            UPDATE consona_queue AS m SET attempt = m.attempt + 1, due = now + lease, token = new_token,
                failures = CASE WHEN m.token IS NULL THEN m.failures
                    ELSE consona_queue_failed(m.failures, m.attempt, m.due, '') END
            FROM chosen WHERE m.id = chosen.id
            RETURNING m.*, chosen.rank)
        SELECT taken.id, taken.body, taken.headers, taken.attempt, taken.put_at, taken.due, taken.token,
            taken.priority, taken.key, taken.failures::text
        FROM taken ORDER BY taken.rank, taken.id
    $$"""

_SETTLE: Final = f"""
    CREATE FUNCTION consona_queue_settle(ids bigint[], tokens text[]) RETURNS SETOF bigint
    LANGUAGE plpgsql {_BY_INDEX} AS $$
    DECLARE
        gone record;
    BEGIN
        PERFORM 1 FROM consona_queue_keys AS k WHERE (k.queue, k.key) IN (
            SELECT m.queue, m.key FROM consona_queue AS m WHERE m.id = ANY (ids) AND m.key IS NOT NULL)
            ORDER BY k.key FOR UPDATE;
        FOR gone IN
            DELETE FROM consona_queue AS m USING unnest(ids, tokens) AS held (id, token)
            WHERE m.id = held.id AND m.token = held.token RETURNING m.id, m.queue, m.key
        LOOP
            IF gone.key IS NOT NULL THEN
                PERFORM consona_queue_next(gone.queue, gone.key);
            END IF;
            RETURN NEXT gone.id;
        END LOOP;
    END $$"""

_FAILED: Final = """
    CREATE FUNCTION consona_queue_failed(
        failures jsonb, attempt integer, at double precision, error text)
    RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE WHEN jsonb_array_length(failures) >= 10 THEN failures - 0 ELSE failures END
            || jsonb_build_object('attempt', attempt, 'at', at, 'error', error)
    $$"""

_RELEASE: Final = """
    CREATE FUNCTION consona_queue_release(
        of_id bigint, of_token text, now double precision, delay double precision, error text, dead boolean)
    RETURNS boolean LANGUAGE plpgsql AS $$
    DECLARE
        held record;
    BEGIN
        IF dead THEN
            PERFORM 1 FROM consona_queue_keys AS k WHERE (k.queue, k.key) IN (
                SELECT m.queue, m.key FROM consona_queue AS m WHERE m.id = of_id) FOR UPDATE;
        END IF;
        UPDATE consona_queue SET due = now + delay, token = NULL,
            attempt = attempt - CASE WHEN error = '' THEN 1 ELSE 0 END,
            failures = CASE WHEN error = '' THEN failures ELSE consona_queue_failed(failures, attempt, now, error) END
            WHERE id = of_id AND token = of_token RETURNING queue, key INTO held;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
        IF dead THEN
            INSERT INTO consona_queue_dead
                (id, queue, attempt, put_at, died_at, reason, priority, key, headers, failures, body)
                SELECT id, queue, attempt, put_at, now, error, priority, key, headers, failures, body
                FROM consona_queue WHERE id = of_id;
            DELETE FROM consona_queue WHERE id = of_id;
            IF held.key IS NOT NULL THEN
                PERFORM consona_queue_next(held.queue, held.key);
            END IF;
        END IF;
        RETURN true;
    END $$"""

STEPS: Final = ((*_TABLES, _PUT, _NEXT, _SETTLE, _FAILED, _TAKE, _RELEASE),)
