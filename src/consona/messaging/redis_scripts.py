"""The scripts of the queues in Redis, and the keys that they work on. All keys of a queue begin with KEYS[1].

    :n            the newest id                              :c        how many messages there are
    :m:<id>       a message: body, headers, priority, key, put_at, due, attempt, token, failures
    :r:<0 to 9>   ids that wait for nothing but their time, by due (a lease and a delay are times in the future)
    :h            ids that are held, by the end of the lease
    :k:<key>      ids of a key, oldest first: of these the first one alone is in :r
    :s, :u        what is not put twice: dedup -> id, and dedup by the end of its window
    :d            dead letters in the order of their death; each is still a :m:<id>

Ids are numbers with leading zeros, so that what is due at the same time comes in the order of putting.
"""

from __future__ import annotations

from typing import Final

from consona.storage.redis.engine import Script

__all__ = ["BURY", "DEAD", "DEPTH", "EXTEND", "PUT", "RELEASE", "SETTLE", "TAKE"]

_SHARED: Final = """
    local q = KEYS[1]
    local function message(id) return q .. ':m:' .. id end
    local function ready(priority) return q .. ':r:' .. priority end
    local function failed(failures, attempt, at, words)
        local list = failures and failures ~= '' and cmsgpack.unpack(failures) or {}
        if #list >= 10 then table.remove(list, 1) end
        list[#list + 1] = {attempt = tonumber(attempt), at = at, error = words}
        return cmsgpack.pack(list)
    end
    local function ring(bell) redis.call('PUBLISH', bell, '') end
    local function held(id, token) return token ~= '' and redis.call('HGET', message(id), 'token') == token end
    -- A new message, at the end.
    local function add(body, headers, priority, key, now, delay)
        local id = string.format('%016d', redis.call('INCR', q .. ':n'))
        local due, free = exact(now + tonumber(delay)), true
        redis.call('HSET', message(id), 'body', body, 'headers', headers, 'priority', priority, 'key', key,
            'put_at', exact(now), 'due', due, 'attempt', 0, 'token', '', 'failures', '')
        redis.call('INCR', q .. ':c')
        if key ~= '' then
            redis.call('ZADD', q .. ':k:' .. key, 0, id)
            free = redis.call('ZRANGE', q .. ':k:' .. key, 0, 0)[1] == id
        end
        if free then redis.call('ZADD', ready(priority), due, id) end
        return id
    end
    -- Out of the ways of the living; the next of its key may come.
    local function leave(id)
        local priority, key = unpack(redis.call('HMGET', message(id), 'priority', 'key'))
        redis.call('ZREM', ready(priority), id)
        redis.call('ZREM', q .. ':h', id)
        redis.call('DECR', q .. ':c')
        if key == '' then return false end
        redis.call('ZREM', q .. ':k:' .. key, id)
        local next = redis.call('ZRANGE', q .. ':k:' .. key, 0, 0)[1]
        if not next then return false end
        local p, due = unpack(redis.call('HMGET', message(next), 'priority', 'due'))
        redis.call('ZADD', ready(p), due, next)
        return true
    end
"""

# KEYS: queue, names of all queues. ARGV: now, bell, name, then for each: body, headers, delay, priority, key, dedup, window.
PUT: Final = Script(
    _SHARED
    + """
    local now, ids = the_time(ARGV[1]), {}
    redis.call('SADD', KEYS[2], ARGV[3])
    for _, old in ipairs(redis.call('ZRANGE', q .. ':u', '-inf', exact(now), 'BYSCORE', 'LIMIT', 0, 100)) do
        redis.call('ZREM', q .. ':u', old)
        redis.call('HDEL', q .. ':s', old)
    end
    for i = 4, #ARGV, 7 do
        local body, headers, delay, priority, key, dedup, window = unpack(ARGV, i, i + 6)
        local first
        if dedup ~= '' then
            local until_ = redis.call('ZSCORE', q .. ':u', dedup)
            first = until_ and tonumber(until_) > now and redis.call('HGET', q .. ':s', dedup)
        end
        if first then
            ids[#ids + 1] = first
        else
            local id = add(body, headers, priority, key, now, delay)
            if dedup ~= '' then
                redis.call('HSET', q .. ':s', dedup, id)
                redis.call('ZADD', q .. ':u', exact(now + tonumber(window)), dedup)
            end
            ids[#ids + 1] = id
        end
    end
    ring(ARGV[2])
    return ids
"""
)

# ARGV: now, limit, lease, token, seconds for each step of priority. Gives the leases; none: when the next is due.
TAKE: Final = Script(
    _SHARED
    + """
    local now, limit, found = the_time(ARGV[1]), tonumber(ARGV[2]), {}
    for p = 0, 9 do
        local due = redis.call('ZRANGE', ready(p), '-inf', exact(now), 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
        for i = 1, #due, 2 do
            found[#found + 1] = {id = due[i], rank = tonumber(due[i + 1]) - p * tonumber(ARGV[5])}
        end
    end
    table.sort(found, function(a, b) if a.rank == b.rank then return a.id < b.id end return a.rank < b.rank end)
    local leases, until_ = {}, exact(now + tonumber(ARGV[3]))
    for i = 1, math.min(limit, #found) do
        local id = found[i].id
        local m = redis.call('HMGET', message(id),
            'body', 'headers', 'attempt', 'put_at', 'due', 'priority', 'key', 'token', 'failures')
        local failures = m[9]
        if m[8] ~= '' then failures = failed(failures, m[3], tonumber(m[5]), '') end -- its lease ended
        redis.call('HSET', message(id), 'attempt', m[3] + 1, 'due', until_, 'token', ARGV[4], 'failures', failures)
        redis.call('ZADD', ready(m[6]), until_, id)
        redis.call('ZADD', q .. ':h', until_, id)
        leases[i] = {id, m[1], m[2], m[3] + 1, m[4], until_, ARGV[4], m[6], m[7], failures}
    end
    if #leases > 0 then return {leases} end
    local nearest
    for p = 0, 9 do
        local first = redis.call('ZRANGE', ready(p), 0, 0, 'WITHSCORES')[2]
        if first and (not nearest or tonumber(first) < nearest) then nearest = tonumber(first) end
    end
    return {leases, nearest and exact(nearest - now) or ''}
"""
)

# ARGV: bell, then for each: id, token. Gives the ids that were held.
SETTLE: Final = Script(
    _SHARED
    + """
    local done, freed = {}, false
    for i = 2, #ARGV, 2 do
        local id = ARGV[i]
        if held(id, ARGV[i + 1]) then
            freed = leave(id) or freed
            redis.call('DEL', message(id))
            done[#done + 1] = id
        end
    end
    if freed then ring(ARGV[1]) end
    return done
"""
)

# ARGV: now, bell, id, token, delay, error, dead (1 or 0). Gives whether it was held.
RELEASE: Final = Script(
    _SHARED
    + """
    local now, id, words = the_time(ARGV[1]), ARGV[3], ARGV[6]
    if not held(id, ARGV[4]) then return 0 end
    local attempt, failures, priority = unpack(redis.call('HMGET', message(id), 'attempt', 'failures', 'priority'))
    if words == '' then attempt = attempt - 1 else failures = failed(failures, attempt, now, words) end
    local due = exact(now + tonumber(ARGV[5]))
    redis.call('HSET', message(id), 'attempt', attempt, 'failures', failures, 'token', '', 'due', due)
    if ARGV[7] == '1' then
        leave(id)
        redis.call('HSET', message(id), 'died_at', exact(now), 'reason', words)
        redis.call('ZADD', q .. ':d', redis.call('INCR', q .. ':deaths'), id)
    else
        redis.call('ZREM', q .. ':h', id)
        redis.call('ZADD', ready(priority), due, id)
    end
    ring(ARGV[2])
    return 1
"""
)

# ARGV: now, id, token, lease. Gives the end of the lease.
EXTEND: Final = Script(
    _SHARED
    + """
    local id = ARGV[2]
    if not held(id, ARGV[3]) then return '' end
    local until_ = exact(the_time(ARGV[1]) + tonumber(ARGV[4]))
    redis.call('HSET', message(id), 'due', until_)
    redis.call('ZADD', ready(redis.call('HGET', message(id), 'priority')), until_, id)
    redis.call('ZADD', q .. ':h', until_, id)
    return until_
"""
)

# ARGV: now. Gives ready, delayed, leased, dead.
DEPTH: Final = Script(
    _SHARED
    + """
    local now, later = '(' .. exact(the_time(ARGV[1])), 0
    local leased = redis.call('ZCOUNT', q .. ':h', now, '+inf')
    for p = 0, 9 do later = later + redis.call('ZCOUNT', ready(p), now, '+inf') end
    local all = tonumber(redis.call('GET', q .. ':c') or 0)
    return {all - later, later - leased, leased, redis.call('ZCARD', q .. ':d')}
""",
    reads=True,
)

# ARGV: the id behind which they begin, limit.
DEAD: Final = Script(
    _SHARED
    + """
    local place = ARGV[1] ~= '' and redis.call('ZSCORE', q .. ':d', ARGV[1]) or 0
    local letters = {}
    for i, id in ipairs(redis.call('ZRANGE', q .. ':d', '(' .. place, '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
        letters[i] = {id, unpack(redis.call('HMGET', message(id),
            'body', 'headers', 'attempt', 'put_at', 'died_at', 'reason', 'priority', 'key', 'failures'))}
    end
    return letters
""",
    reads=True,
)

# ARGV: now, bell, redrive (1 or 0), the new body and headers or '' and '-', then ids. Gives how many there were.
BURY: Final = Script(
    _SHARED
    + """
    local now, count = the_time(ARGV[1]), 0
    for i = 6, #ARGV do
        local id = ARGV[i]
        if redis.call('ZREM', q .. ':d', id) == 1 then
            count = count + 1
            local body, headers, priority, key =
                unpack(redis.call('HMGET', message(id), 'body', 'headers', 'priority', 'key'))
            redis.call('DEL', message(id))
            if ARGV[3] == '1' then
                if ARGV[5] ~= '-' then body, headers = ARGV[4], ARGV[5] end
                add(body, headers, priority, key, now, 0)
            end
        end
    end
    if ARGV[3] == '1' and count > 0 then ring(ARGV[2]) end
    return count
"""
)
