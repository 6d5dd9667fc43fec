"""The second half of the cases after the public test suite: see `http_cache_cases.py`, which this file adds to."""

from __future__ import annotations

from http_cache_cases import (
    BETTER,
    CACHED,
    CASES,
    DATE,
    ETAG,
    MUST,
    ORIGIN,
    PRIVATE,
    SHARED,
    SHOWS,
    Fields,
    Step,
    again,
    case,
    cc,
    dated,
    fresh,
    short,
)

__all__ = ["CASES", "PRIVATE", "SHARED"]

# Vary.

FOO1, FOO2 = ("Foo", "1"), ("Foo", "2")
BAR, BAZ = ("Bar", "abc"), ("Baz", "789")


def varies(names: str, ask: Fields, **more) -> Step:
    lines = [("Vary", name) for name in names.split("|")]
    return dated(("Cache-Control", "max-age=5000"), ("Last-Modified", -3000), *lines, ask=ask, wait=0, **more)


for id_, kind, names, first, second, source in [
    ("match", BETTER, "Foo", [FOO1], [FOO1], CACHED),
    ("no-match", MUST, "Foo", [FOO1], [FOO2], ORIGIN),
    ("omit-stored", MUST, "Foo", [], [FOO1], ORIGIN),
    ("omit", MUST, "Foo", [FOO1], [], ORIGIN),
    ("cache-key", BETTER, "Foo", [FOO1, ("Other", "2")], [FOO1, ("Other", "3")], CACHED),
    ("2-match", BETTER, "Foo, Bar", [FOO1, BAR], [FOO1, BAR], CACHED),
    ("2-no-match", MUST, "Foo, Bar", [FOO1, BAR], [FOO2, BAR], ORIGIN),
    ("2-match-omit", MUST, "Foo, Bar", [FOO1, BAR], [], ORIGIN),
    ("3-match", BETTER, "Foo, Bar, Baz", [FOO1, BAR, BAZ], [FOO1, BAR, BAZ], CACHED),
    ("3-no-match", MUST, "Foo, Bar, Baz", [FOO1, BAR, BAZ], [FOO2, BAR, BAZ], ORIGIN),
    ("3-order", MUST, "Foo, Bar, Baz", [FOO1, BAR, BAZ], [FOO1, BAZ, ("Bar", "abcde")], ORIGIN),
    ("3-omit", BETTER, "Foo, Bar, Baz", [FOO1, BAZ], [FOO1, BAZ], CACHED),
    ("star", MUST, "*", [FOO1, BAZ], [FOO1, BAZ], ORIGIN),
    ("normalise-combine", BETTER, "Foo", [("Foo", "1, 2")], [FOO1, FOO2], CACHED),
    ("normalise-lang-order", BETTER, "Accept-Language", [("Accept-Language", "en, de")], [("Accept-Language", "de, en")], CACHED),
    ("normalise-lang-case", BETTER, "Accept-Language", [("Accept-Language", "en, de")], [("Accept-Language", "eN, De")], CACHED),
    ("normalise-lang-space", BETTER, "Accept-Language", [("Accept-Language", "en, de")], [("Accept-Language", " en ,   de")], CACHED),
    ("normalise-space", BETTER, "Foo", [("Foo", "1,2")], [("Foo", " 1, 2 ")], CACHED),
    ("syntax-star", MUST, "*", [FOO1, BAZ], [FOO1, BAZ], ORIGIN),
    ("syntax-star-star", MUST, "*, *", [FOO1, BAZ], [FOO1, BAZ], ORIGIN),
    ("syntax-star-star-lines", MUST, "*|*", [FOO1, BAZ], [FOO1, BAZ], ORIGIN),
    ("syntax-empty-star", MUST, ", *", [FOO1, BAZ], [FOO1, BAZ], ORIGIN),
    ("syntax-empty-star-lines", MUST, "|*", [FOO1, BAZ], [FOO1, BAZ], ORIGIN),
    ("syntax-star-foo", MUST, "*, Foo", [FOO1, BAZ], [FOO1, BAZ], ORIGIN),
    ("syntax-foo-star", MUST, "Foo, *", [FOO1, BAZ], [FOO1, BAZ], ORIGIN),
]:  # fmt: skip
    case(f"vary-{id_}", kind, varies(names, first), again(source, ask=second))
case(
    "vary-invalidate", BETTER,
    varies("Foo", [FOO1], body="one"), varies("Foo", [FOO2], source=ORIGIN, body="two"),
    again(CACHED, ask=[FOO1], text="one"),
)  # fmt: skip
case(
    "vary-normalise-lang-select", BETTER,
    Step([*varies("Accept-Language", []).answer, ("Content-Language", "de")], ask=[("Accept-Language", "en, de")], wait=0),
    again(CACHED, ask=[("Accept-Language", "fr;q=0.5, de;q=1.0")]),
)  # fmt: skip

# The caller's own conditions. (A browser does not hand those on, so the suite asks them of shared caches alone.)


def since(seconds: int, source: str, **more) -> Step:
    return again(source, ask=[("If-Modified-Since", seconds)], expect_status=304, **more)


def none_match(tags: str, source: str = CACHED, **more) -> Step:
    return again(source, ask=[("If-None-Match", tags)], expect_status=304, **more)


LM = ("Last-Modified", -3000)
case("conditional-lm-fresh", BETTER, fresh(LM), since(-3000, CACHED), cache=SHARED)
case("conditional-lm-fresh-earlier", BETTER, fresh(LM), since(-2000, CACHED), cache=SHARED)
case("conditional-lm-stale", BETTER, short(LM), since(-3000, DATE), cache=SHARED)
case("conditional-lm-fresh-no-lm", BETTER, fresh(), since(-3000, CACHED), cache=SHARED)
case(
    "conditional-lm-fresh-rfc850", BETTER, fresh(LM),
    again(CACHED, ask=[("If-Modified-Since", ("rfc850", -3000))], expect_status=304), cache=SHARED,
)  # fmt: skip
TAG = ("ETag", '"abcdef"')
case("conditional-304-etag", MUST, fresh(TAG), none_match('"abcdef"', expect=[TAG]), cache=SHARED)
case(
    "conditional-etag-precedence", MUST, fresh(("Last-Modified", -5000), TAG),
    again(CACHED, ask=[("If-None-Match", '"abcdef"'), ("If-Modified-Since", -10000)], expect_status=304), cache=SHARED,
)  # fmt: skip
for id_, kind, tag, asked in [
    ("strong-respond", BETTER, '"abcdef"', '"abcdef"'),
    ("strong-respond-obs-text", SHOWS, '"abcdefü"', '"abcdefü"'),
    ("quoted-respond-unquoted", SHOWS, '"abcdef"', "abcdef"),
    ("unquoted-respond-unquoted", SHOWS, "abcdef", "abcdef"),
    ("unquoted-respond-quoted", SHOWS, "abcdef", '"abcdef"'),
    ("weak-respond", BETTER, 'W/"abcdef"', 'W/"abcdef"'),
    ("weak-respond-lowercase", SHOWS, 'w/"abcdef"', 'w/"abcdef"'),
    ("weak-respond-backslash", SHOWS, 'W\\"abcdef"', 'W\\"abcdef"'),
    ("weak-respond-omit-slash", SHOWS, 'W"abcdef"', 'W"abcdef"'),
    ("strong-respond-multiple-first", BETTER, '"abcdef"', '"abcdef", "1234", "5678"'),
    ("strong-respond-multiple-second", BETTER, '"abcdef"', '"1234", "abcdef", "5678"'),
    ("strong-respond-multiple-last", BETTER, '"abcdef"', '"1234", "5678", "abcdef"'),
]:
    case(f"conditional-etag-{id_}", kind, fresh(("ETag", tag)), none_match(asked), cache=SHARED)
ABC = ("Abc", "123")
case(
    "conditional-etag-vary-headers", MUST, dated(("Expires", 1), TAG, ("Vary", "Abc"), ask=[ABC]),
    again(ETAG, ask=[ABC], seen=[ABC]),
)  # fmt: skip
case(
    "conditional-etag-vary-headers-mismatch", SHOWS, dated(("Expires", 10000), TAG, ("Vary", "Abc"), ask=[ABC]),
    Step(ask=[("Abc", "456")], seen=[("If-None-Match", '"abcdef"')]),
)  # fmt: skip
for id_, kind, tag, sent in [
    ("strong-generate", BETTER, '"abcdef"', '"abcdef"'),
    ("weak-generate-weak", BETTER, 'W/"abcdef"', 'W/"abcdef"'),
    ("strong-generate-unquoted", SHOWS, "abcdef", '"abcdef"'),
]:
    case(f"conditional-etag-{id_}", kind, short(("ETag", tag)), again(ETAG, seen=[("If-None-Match", sent)]))
for id_, sent in [("forward", '"abcdef"'), ("forward-unquoted", "abcdef")]:
    case(f"conditional-etag-{id_}", SHOWS, Step(ask=[("If-None-Match", sent)], seen=[("If-None-Match", '"abcdef"')]))

# Which fields are kept.

case(
    "headers-omit-headers-listed-in-Connection", MUST,
    fresh(("Connection", "a, b"), ("a", "1"), ("b", "2"), ("c", "3")),
    again(CACHED, expect=[("c", "3")], missing=["a", "b"]),
)  # fmt: skip
KEPT = [
    ("Test-Header", "one", "two"), ("X-Test-Header", "one", "two"), ("Content-Foo", "one", "two"),
    ("X-Content-Foo", "one", "two"), ("Cache-Control", "max-age=1", "max-age=3600"), ("Content-Encoding", "one", "two"),
    ("Content-Length", "36", "10"), ("Content-Location", "/foo", "/bar"),
    ("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A==", "N7UdGUp1E+RbVvZSTy1R8g=="), ("Content-Range", "one", "two"),
    ("Content-Security-Policy", "default-src 'self'", "default-src 'self' cdn.example.com"),
    ("Content-Type", "text/plain", "text/plain;charset=utf-8"), ("Clear-Site-Data", "cache", "cookies"),
    ("ETag", '"abcdef"', '"ghijkl"'), ("Expires", "Fri, 01 Jan 2038 01:01:01 GMT", "Mon, 11 Jan 2038 11:11:11 GMT"),
    ("Public-Key-Pins", "one", "two"), ("Set-Cookie", "a=b", "a=c"), ("Set-Cookie2", "a=b", "a=c"),
    ("X-Frame-Options", "deny", "sameorigin"), ("X-XSS-Protection", "1", "1; mode=block"),
]  # fmt: skip
NOT_KEPT = [
    "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
    "Proxy-Connection", "TE", "Transfer-Encoding", "Upgrade",
]  # fmt: skip
for name, _, text in KEPT:
    control = [] if name == "Cache-Control" else [("Cache-Control", "max-age=3600")]
    case(f"headers-store-{name}", MUST, dated((name, text), *control), again(CACHED, expect=[(name, text)]))
for name in NOT_KEPT:
    case(
        f"headers-store-{name}", MUST, dated((name, "something"), ("Cache-Control", "max-age=3600")),
        again(CACHED, missing=[f"{name}: something"]),
    )  # fmt: skip

# What a 304 changes.

LM_2020 = ("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")
case(
    "304-lm-use-stored-Test-Header", MUST, short(LM_2020, ("Test-Header", "one")),
    dated(LM_2020, source=DATE, expect=[("Test-Header", "one")]),
)  # fmt: skip
for name, before, after in KEPT:
    must = name in {"Test-Header", "X-Test-Header", "Content-Foo", "X-Content-Foo", "Cache-Control", "Content-Length"}
    shown = before if name == "Content-Length" else after
    tag = [] if name == "ETag" else [("ETag", '"same"')]
    control = [] if name == "Cache-Control" else [("Cache-Control", "max-age=2")]
    case(
        f"304-etag-update-response-{name}", MUST if must else SHOWS,
        dated((name, before), *control, *tag),
        dated((name, after), *control, *tag, source=ETAG, expect=[(name, shown)], wait=0),
        again(CACHED, expect=[(name, shown)]),
    )  # fmt: skip

# HEAD.

case("head-writethrough", SHOWS, short(), Step(method="HEAD", seen_method="HEAD"))
case("head-200-retain", SHOWS, short(), Step(method="HEAD", seen_method="HEAD", expect=[("Template-A", "1")]))
case(
    "head-200-freshness-update", SHOWS, short(), cc("max-age=1000", method="HEAD", seen_method="HEAD"), again(CACHED),
)  # fmt: skip
for id_, status in [("200", 200), ("410", 410)]:
    updated = [("Template-A", "2"), ("Cache-Control", "max-age=1000")]
    case(
        f"head-{id_}-update", SHOWS, short(), Step(updated, status=status, method="HEAD", seen_method="HEAD"),
        again(CACHED, expect=[("Template-A", "2")]),
    )  # fmt: skip

# Invalidation.

for method in ("POST", "PUT", "DELETE", "M-SEARCH"):
    case(f"invalidate-{method}", MUST, fresh(), Step(method=method, sends="abc"), again(ORIGIN))
    case(
        f"invalidate-{method}-failed", BETTER, fresh(), Step(method=method, sends="abc", status=500), again(CACHED),
    )  # fmt: skip
    for id_, where in [("location", "location_target"), ("cl", "content_location_target")]:
        case(
            f"invalidate-{method}-{id_}", SHOWS,
            fresh(path=where, wait=0),
            Step(
                [("Location", ("below", "location_target")), ("Content-Location", ("below", "content_location_target"))],
                method=method, sends="abc", wait=0,
            ),
            fresh(path=where, source=ORIGIN),
        )  # fmt: skip

# Ranges.


def ranged(text: str, body: str, **more) -> Step:
    return again(CACHED, ask=[("Range", f"bytes={text}")], expect_status=206, text=body, **more)


def part(of: str = "4-9") -> Step:
    pieces = [("Cache-Control", "max-age=3600"), ("Content-Range", f"bytes {of}/10")]
    return Step(pieces, status=206, body="01234", ask=[("Range", "bytes=-5")], wait=0)


whole = Step([("Cache-Control", "max-age=3600"), ("A", "1")], body="0123456789A", wait=0)
case("partial-store-partial-reuse-partial", BETTER, part(), ranged("-5", "01234"))
case("partial-store-complete-reuse-partial", BETTER, whole, ranged("0-1", "01"))
case("partial-store-complete-reuse-partial-no-last", BETTER, whole, ranged("1-", "123456789A"))
case("partial-store-complete-reuse-partial-suffix", BETTER, whole, ranged("-1", "A"))
case("partial-store-partial-reuse-partial-byterange", BETTER, part(), ranged("6-8", "234"))
case("partial-store-partial-reuse-partial-absent", BETTER, part(), ranged("6-", "234"))
case("partial-store-partial-reuse-partial-suffix", BETTER, part(), ranged("-1", "4"))
case("partial-store-partial-complete", BETTER, part("0-4"), Step(seen=[("Range", "bytes=5-")]))
case("partial-use-headers", MUST, whole, ranged("0-1", "01", answer=[("A", "2")]))
case("partial-use-stored-headers", MUST, whole, ranged("0-1", "01", expect=[("A", "1")]))

# Credentials, and what else.

WHO = [("Authorization", "FOO")]
case("other-authorization", MUST, fresh(ask=WHO, seen=WHO), again(ORIGIN), cache=SHARED)
for id_, text in [
    ("public", "max-age=3600, public"),
    ("must-revalidate", "max-age=3600, must-revalidate"),
    ("smaxage", "s-maxage=3600"),
]:
    case(
        f"other-authorization-{id_}",
        BETTER,
        dated(("Cache-Control", text), ask=WHO, seen=WHO),
        again(CACHED),
        cache=SHARED,
    )
case("other-age-gen", MUST, fresh(), again(CACHED, expect=[("Age", ("above", 2))]))
case("other-age-delay", SHOWS, cc("max-age=3600", slow=5, expect=[("Age", ("above", 0))]))
case(
    "other-age-update-expires",
    MUST,
    dated(("Expires", 2592000), ("Age", "30")),
    again(CACHED, expect=[("Age", ("above", 32))]),
)
case("other-age-update-max-age", MUST, fresh(("Age", "30")), again(CACHED, expect=[("Age", ("above", 32))]))
case("other-date-update", MUST, fresh(), again(CACHED, expect=[("Date", 0)]))
case("other-date-update-expires", MUST, dated(("Expires", 2592000)), again(CACHED, expect=[("Date", 0)]))
case(
    "other-date-update-expires-update", SHOWS, dated(("Expires", 2592000)), again(CACHED, expect=[("Expires", 2592000)])
)
case("query-args-different", MUST, fresh(path="?test=1"), again(ORIGIN, path="?test=2"))
case("query-args-same", BETTER, fresh(path="?test=1"), again(CACHED, path="?test=1"))
ATTACHED = ("Content-Disposition", "attachment; filename=example.txt")
case(
    "other-heuristic-content-disposition-attachment", SHOWS, dated(("Last-Modified", -100000), ATTACHED), again(CACHED)
)
case("other-fresh-content-disposition-attachment", SHOWS, fresh(ATTACHED), again(CACHED))
case("other-set-cookie", BETTER, fresh(("Set-Cookie", "a=b")), again(CACHED))
case("other-cookie", BETTER, fresh(), again(CACHED, ask=[("Cookie", "a=b")]))

# Answers before the answer.

EARLY = (103, [("link", "</styles.css>; rel=preload; as=style"), ("x-my-header", "test")])
case("interim-102", BETTER, fresh(interim=[(102, [])], interim_seen=[102]), again(CACHED), cache=SHARED)
case("interim-103", BETTER, fresh(interim=[EARLY], interim_seen=[103]), again(CACHED), cache=SHARED)
case(
    "interim-not-cached", MUST, fresh(interim=[EARLY], interim_seen=[103]), again(CACHED, interim_seen=[]), cache=SHARED,
)  # fmt: skip
case(
    "interim-no-header-reuse", BETTER, fresh(interim=[EARLY], interim_seen=[103], missing=["x-my-header"]),
    again(CACHED, missing=["x-my-header"]), cache=SHARED,
)  # fmt: skip
