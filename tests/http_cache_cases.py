"""What the public test suite for HTTP caches asks, as data of ours: which exchanges, and what must come of them.

Each case has the id of the suite's test, so that a result can be looked up there:
https://github.com/http-tests/cache-tests and https://cache-tests.fyi (M. Nottingham; read at commit b55b8bd).
Its kinds: `must` (a rule of the RFC), `better` (what a cache may do, and an optimal one does), `shows` (a question
without a right answer). Left out: its 24 tests of `CDN-Cache-Control` (RFC 9213), a field for caches of content
delivery networks, which must not be heeded by others.

A case is a list of steps. A step is a request, the answer that the origin has ready for it, and what is expected.
A number in place of a date is seconds from now.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MUST, BETTER, SHOWS = "must", "better", "shows"
BOTH, PRIVATE, SHARED = "both", "private", "shared"

Fields = list[tuple[str, Any]]


@dataclass
class Step:
    answer: Fields = field(default_factory=list)
    """Header fields of the origin's answer."""
    status: int = 200
    body: str | None = None
    ask: Fields = field(default_factory=list)
    """Header fields of the request."""
    method: str = "GET"
    sends: str = ""
    path: str = ""
    wait: float = 3.0
    """Seconds that go by after the step."""
    slow: float = 0.0
    """Seconds that the origin takes."""
    hang_up: bool = False
    interim: list[tuple[int, Fields]] = field(default_factory=list)
    # What is expected.
    source: str = ""
    """`cached`, `origin`, or `etag`, `date`: validated by that."""
    expect_status: int | None = None
    expect: Fields = field(default_factory=list)
    """Fields of the answer: a text, a number of seconds from the first step on (a date), or ("above", n)."""
    missing: list[str] = field(default_factory=list)
    seen: Fields = field(default_factory=list)
    """Fields of the request that the origin must have seen."""
    seen_method: str = ""
    text: str | None = None
    interim_seen: list[int] | None = None


@dataclass
class Case:
    id: str
    kind: str
    steps: list[Step]
    cache: str = BOTH


CASES: list[Case] = []

CACHED, ORIGIN, ETAG, DATE = "cached", "origin", "etag", "date"


def case(id_: str, kind: str, *steps: Step, cache: str = BOTH) -> None:
    CASES.append(Case(id_, kind, list(steps), cache))


def cc(text: str, **more: Any) -> Step:
    return Step([("Cache-Control", text)], **more)


def again(source: str, **more: Any) -> Step:
    return Step(source=source, **more)


def fresh(*more: tuple[str, Any], **rest: Any) -> Step:
    return Step([("Cache-Control", "max-age=100000"), ("Date", 0), *more], **rest)


def short(*more: tuple[str, Any], **rest: Any) -> Step:
    """Is over at the next step."""
    return Step([("Cache-Control", "max-age=2"), ("Date", 0), ("Template-A", "1"), *more], **rest)


def dated(*more: tuple[str, Any], **rest: Any) -> Step:
    return Step([*more, ("Date", 0)], **rest)


# Cache-Control and freshness.

case("freshness-none", SHOWS, Step(), again(ORIGIN))
for id_, kind, text, source in [
    ("max-age", BETTER, "max-age=3600", CACHED),
    ("max-age-0", MUST, "max-age=0", ORIGIN),
    ("max-age-max-minus-1", BETTER, "max-age=2147483647", CACHED),
    ("max-age-max", BETTER, "max-age=2147483648", CACHED),
    ("max-age-max-plus-1", BETTER, "max-age=2147483649", CACHED),
    ("max-age-max-plus", BETTER, "max-age=99999999999", CACHED),
    ("max-age-extension", BETTER, "foobar, max-age=3600", CACHED),
    ("max-age-case-insenstive", BETTER, "MaX-aGe=3600", CACHED),
    ("max-age-negative", MUST, "max-age=-3600", ORIGIN),
    ("max-age-two-fresh-stale-sameline", SHOWS, "max-age=1800, max-age=1", CACHED),
    ("max-age-two-stale-fresh-sameline", SHOWS, "max-age=1, max-age=1800", CACHED),
    ("max-age-quoted", SHOWS, 'max-age="3600"', CACHED),
    ("max-age-ignore-quoted", MUST, 'extension="max-age=3600", max-age=1', ORIGIN),
    ("max-age-ignore-quoted-rev", MUST, 'max-age=1, extension="max-age=3600"', ORIGIN),
    ("max-age-space-before-equals", SHOWS, "max-age =3600", ORIGIN),
    ("max-age-space-after-equals", SHOWS, "max-age= 3600", ORIGIN),
    ("max-age-leading-zero", MUST, "max-age=003600", CACHED),
    ("max-age-single-quoted", MUST, "max-age='3600'", ORIGIN),
    ("max-age-decimal-zero", SHOWS, "max-age=3600.0", CACHED),
    ("max-age-decimal-five", SHOWS, "max-age=3600.5", CACHED),
    ("max-age-a100", SHOWS, "max-age=a3600", CACHED),
    ("max-age-100a", SHOWS, "max-age=3600a", CACHED),
]:
    case(f"freshness-{id_}", kind, cc(text), again(source))
for id_, first, second in [("fresh-stale", 1800, 1), ("stale-fresh", 1, 1800)]:
    lines = [("Cache-Control", f"max-age={first}"), ("Cache-Control", f"max-age={second}")]
    case(f"freshness-max-age-two-{id_}-sepline", SHOWS, Step(lines), again(CACHED))
case("freshness-max-age-stale", MUST, short(), again(ORIGIN))
case("freshness-max-age-age", MUST, dated(("Cache-Control", "max-age=3600"), ("Age", "7200")), again(ORIGIN))
case("freshness-max-age-date", SHOWS, Step([("Date", -7200), ("Cache-Control", "max-age=3600")]), again(ORIGIN))
case("freshness-max-age-expires", BETTER, dated(("Cache-Control", "max-age=3600"), ("Expires", -7200)), again(CACHED))
case(
    "freshness-max-age-expires-invalid",
    BETTER,
    dated(("Cache-Control", "max-age=3600"), ("Expires", "0")),
    again(CACHED),
)
case("freshness-max-age-0-expires", MUST, dated(("Cache-Control", "max-age=0"), ("Expires", 3600)), again(ORIGIN))
case("freshness-max-age-s-maxage-private", MUST, cc("s-maxage=3600, max-age=1"), again(ORIGIN), cache=PRIVATE)
case(
    "freshness-max-age-s-maxage-private-multiple", MUST,
    Step([("Cache-Control", "s-maxage=3600"), ("Cache-Control", "max-age=1")]), again(ORIGIN), cache=PRIVATE,
)  # fmt: skip
case("freshness-s-maxage-shared", MUST, cc("s-maxage=3600"), again(CACHED), cache=SHARED)
case("freshness-max-age-s-maxage-shared-longer", MUST, cc("max-age=3600, s-maxage=1"), again(ORIGIN), cache=SHARED)
case(
    "freshness-max-age-s-maxage-shared-longer-reversed",
    MUST,
    cc("s-maxage=1, max-age=3600"),
    again(ORIGIN),
    cache=SHARED,
)
case(
    "freshness-max-age-s-maxage-shared-longer-multiple", MUST,
    Step([("Cache-Control", "max-age=3600"), ("Cache-Control", "s-maxage=1")]), again(ORIGIN), cache=SHARED,
)  # fmt: skip
case("freshness-max-age-s-maxage-shared-shorter", BETTER, cc("max-age=1, s-maxage=3600"), again(CACHED), cache=SHARED)
case(
    "freshness-max-age-s-maxage-shared-shorter-expires", BETTER,
    Step([("Expires", -10), ("Cache-Control", "max-age=0, s-maxage=3600")]), again(CACHED), cache=SHARED,
)  # fmt: skip

# Age.

for id_, kind, ages, source in [
    ("nonnumeric", MUST, ["abc"], CACHED),
    ("negative", MUST, ["-7200"], CACHED),
    ("float", MUST, ["7200.0"], CACHED),
    ("large-minus-one", MUST, ["2147483647"], ORIGIN),
    ("large", MUST, ["2147483648"], ORIGIN),
    ("larger", MUST, ["2147483649"], ORIGIN),
    ("suffix", MUST, ["7200, 0"], ORIGIN),
    ("prefix", MUST, ["0, 7200"], CACHED),
    ("suffix-twoline", MUST, ["7200", "0"], ORIGIN),
    ("prefix-twoline", MUST, ["0", "7200"], CACHED),
    ("dup-0", MUST, ["0, 0"], CACHED),
    ("dup-0-twoline", MUST, ["0", "0"], CACHED),
    ("parameter", SHOWS, ["7200;foo=bar"], ORIGIN),
    ("numeric-parameter", SHOWS, ["7200;foo=111"], ORIGIN),
]:
    case(
        f"age-parse-{id_}",
        kind,
        dated(("Cache-Control", "max-age=3600"), *(("Age", age) for age in ages)),
        again(source),
    )
case(
    "age-parse-dup-old",
    MUST,
    dated(("Cache-Control", "max-age=10000"), ("Age", "3600"), ("Age", "3600")),
    again(CACHED),
)

# Expires.

case("freshness-expires-future", BETTER, dated(("Expires", 2592000)), again(CACHED))
case("freshness-expires-past", MUST, dated(("Expires", -2592000)), again(ORIGIN))
case("freshness-expires-present", MUST, dated(("Expires", 0), wait=0), again(ORIGIN))
case("freshness-expires-old-date", MUST, Step([("Expires", 300), ("Date", 400)]), again(ORIGIN))
case("freshness-expires-invalid", MUST, dated(("Expires", "0")), again(ORIGIN))
case("freshness-expires-invalid-date", BETTER, Step([("Date", "foo"), ("Expires", 10)], wait=0), again(CACHED))
case(
    "freshness-expires-age-slow-date",
    MUST,
    Step([("Date", -10), ("Expires", 10), ("Age", "25")], wait=0),
    again(ORIGIN),
)
case(
    "freshness-expires-age-fast-date", MUST, Step([("Date", 10), ("Expires", 20), ("Age", "15")], wait=0), again(ORIGIN)
)
for id_, kind, text, source in [
    ("32bit", BETTER, "Tue, 19 Jan 2038 14:14:08 GMT", CACHED),
    ("far-future", BETTER, "Sun, 21 Nov 2286 04:46:39 GMT", CACHED),
    ("rfc850", BETTER, "Thursday, 18-Aug-50 02:01:18 GMT", CACHED),
    ("ansi-c", BETTER, "Thu Aug  8 02:01:18 2050", CACHED),
    ("wrong-case-weekday", BETTER, "THU, 18 Aug 2050 02:01:18 GMT", CACHED),
    ("wrong-case-month", BETTER, "Thu, 18 AUG 2050 02:01:18 GMT", CACHED),
    ("wrong-case-tz", BETTER, "Thu, 18 Aug 2050 02:01:18 gMT", CACHED),
    ("invalid-utc", MUST, "Thu, 18 Aug 2050 02:01:18 UTC", ORIGIN),
    ("invalid-aest", MUST, "Thu, 18 Aug 2050 02:01:18 AEST", ORIGIN),
    ("invalid-2-digit-year", MUST, "Thu, 18 Aug 50 02:01:18 GMT", ORIGIN),
    ("invalid-no-comma", MUST, "Thu 18 Aug 2050 02:01:18 GMT", ORIGIN),
    ("invalid-multiple-spaces", MUST, "Thu, 18  Aug  2050 02:01:18 GMT", ORIGIN),
    ("invalid-date-dashes", MUST, "Thu, 18-Aug-2050 02:01:18 GMT", ORIGIN),
    ("invalid-time-periods", MUST, "Thu, 18 Aug 2050 02.01.18 GMT", ORIGIN),
    ("invalid-1-digit-hour", MUST, "Thu, 18 Aug 2050 2:01:18 GMT", ORIGIN),
]:
    case(f"freshness-expires-{id_}", kind, dated(("Expires", text)), again(source))
case(
    "freshness-expires-invalid-multiple-lines", MUST,
    dated(*(("Expires", f"Thu, 18 Aug 2050 2:01:1{second} GMT") for second in (8, 9))), again(ORIGIN),
)  # fmt: skip

# Other directives of the answer.

case("cc-resp-private-shared", MUST, cc("private, max-age=3600"), again(ORIGIN), cache=SHARED)
case("cc-resp-private-private", BETTER, cc("private, max-age=3600"), again(CACHED), cache=PRIVATE)
case("cc-resp-no-store", MUST, cc("no-store", wait=0), again(ORIGIN))
case("cc-resp-no-store-case-insensitive", MUST, cc("No-StOrE", wait=0), again(ORIGIN))
case(
    "cc-resp-no-store-fresh",
    MUST,
    dated(("Cache-Control", "max-age=10000, no-store"), ("Expires", 10000)),
    again(ORIGIN),
)
for id_, text in [("new", "no-store"), ("max-age", "no-store, max-age=0")]:
    case(
        f"cc-resp-no-store-old-{id_}", MUST,
        dated(("Cache-Control", "max-age=10000"), ("Expires", 10000), ("A", "1")),
        dated(("Cache-Control", text), ("A", "2")),
        again(CACHED, expect=[("A", "1")]),
    )  # fmt: skip
case("cc-resp-no-cache", MUST, dated(("Cache-Control", "max-age=10000, no-cache"), ("Expires", 10000)), again(ORIGIN))
case("cc-resp-no-cache-case-insensitive", MUST, dated(("Cache-Control", "max-age=10000, No-CaChE")), again(ORIGIN))
case("cc-resp-no-cache-revalidate", BETTER, Step([("Cache-Control", "no-cache"), ("ETag", '"abcd"')]), again(ETAG))
case(
    "cc-resp-no-cache-revalidate-fresh", BETTER,
    dated(("Cache-Control", "max-age=10000, no-cache"), ("Expires", 10000), ("ETag", '"abcd"')), again(ETAG),
)  # fmt: skip
case(
    "headers-omit-headers-listed-in-Cache-Control-no-cache-single", SHOWS,
    dated(("Cache-Control", 'no-cache="a"'), ("a", "1"), ("b", "2"), ("Cache-Control", "max-age=3600")),
    again(CACHED, expect=[("b", "2")], missing=["a"]),
)  # fmt: skip
case(
    "headers-omit-headers-listed-in-Cache-Control-no-cache", SHOWS,
    dated(("Cache-Control", 'no-cache="a, b"'), ("a", "1"), ("b", "2"), ("c", "3"), ("Cache-Control", "max-age=3600")),
    again(CACHED, expect=[("c", "3")], missing=["a", "b"]),
)  # fmt: skip
case(
    "cc-resp-must-revalidate-fresh", BETTER,
    Step([("Cache-Control", "max-age=10000, must-revalidate"), ("ETag", '"abcd"')]), again(CACHED),
)  # fmt: skip
strict = [("Cache-Control", "max-age=2, must-revalidate"), ("ETag", '"abcd"')]
case("cc-resp-must-revalidate-stale", MUST, Step(strict, wait=0), Step(strict, source=CACHED), again(ETAG))
# A browser's `cache: "no-cache"` sends `max-age=0`.
reload = [("Cache-Control", "max-age=0")]
case(
    "cc-resp-immutable-fresh", BETTER, Step([("Cache-Control", "max-age=10000, immutable"), ("ETag", '"abcd"')]),
    again(CACHED, ask=reload), cache=PRIVATE,
)  # fmt: skip
case(
    "cc-resp-immutable-stale", MUST, Step([("Cache-Control", "max-age=2, immutable"), ("ETag", '"abcd"')]),
    again(ETAG, ask=reload, seen=reload), cache=PRIVATE,
)  # fmt: skip

# Stale answers.

case("stale-close", SHOWS, short(), again(CACHED, hang_up=True))
case("stale-503", SHOWS, short(), again(CACHED, status=503, expect_status=200))
case(
    "stale-while-revalidate", BETTER,
    Step([("Cache-Control", "max-age=1, stale-while-revalidate=3600"), ("ETag", '"abc"')]), again(CACHED),
)  # fmt: skip
case(
    "stale-while-revalidate-window", MUST,
    Step([("Cache-Control", "max-age=1, stale-while-revalidate=4"), ("ETag", '"abc"')]),
    Step([("Cache-Control", "no-cache"), ("ETag", '"def"')], source=CACHED),
    Step(expect=[("Step", "3")]),
)  # fmt: skip
case("stale-sie-close", SHOWS, cc("max-age=2, stale-if-error=60"), again(CACHED, hang_up=True))
case("stale-sie-503", SHOWS, cc("max-age=2, stale-if-error=60"), again(CACHED, status=503, expect_status=200))
for id_, text, cache in [
    ("must-revalidate", "must-revalidate", BOTH),
    ("proxy-revalidate", "proxy-revalidate", SHARED),
    ("no-cache", "no-cache", BOTH),
    ("s-maxage=2", "s-maxage=2", SHARED),
]:
    case(f"stale-close-{id_}", MUST, cc(f"max-age=2, {text}"), Step(hang_up=True, missing=["Step"]), cache=cache)
old = Step([("Expires", -5000), ("Last-Modified", -100000), ("Date", 0)])
case("stale-warning-stored", SHOWS, old, again(CACHED, hang_up=True, expect=[("Warning", ("any",))]))
case("stale-warning-become", SHOWS, short(), again(CACHED, hang_up=True, expect=[("Warning", ("any",))]))

# Guessed freshness.

for status, source in [
    (200, CACHED), (201, ORIGIN), (202, ORIGIN), (203, CACHED), (204, CACHED), (403, ORIGIN), (404, CACHED),
    (405, CACHED), (410, CACHED), (414, CACHED), (501, CACHED), (502, ORIGIN), (503, ORIGIN), (504, ORIGIN),
    (599, ORIGIN),
]:  # fmt: skip
    case(
        f"heuristic-{status}-{'cached' if source == CACHED else 'not_cached'}", BETTER if source == CACHED else MUST,
        dated(("Last-Modified", -86400), status=status, wait=0), again(source, status=status),
    )  # fmt: skip
case(
    "heuristic-599-cached", BETTER,
    dated(("Last-Modified", -86400), ("Cache-Control", "public"), status=599, wait=0), again(CACHED, status=599),
)  # fmt: skip
for ago in (5, 10, 30, 60, 300, 600, 1200, 1800, 3600, 43200, 86400):
    case(f"heuristic-delta-{ago}", SHOWS, dated(("Last-Modified", -ago)), again(CACHED))

# Methods and statuses.

case(
    "method-POST", BETTER,
    dated(("Cache-Control", "max-age=3600"), ("Content-Location", ("self",)), method="POST", sends="12345"),
    again(CACHED),
)  # fmt: skip
for status in (200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599):
    cache = SHARED if 300 <= status < 400 else BOTH
    case(f"status-{status}-fresh", BETTER, fresh(status=status), again(CACHED, status=status), cache=cache)
    case(
        f"status-{status}-stale", MUST,
        Step([("Expires", -5000), ("Last-Modified", -100000), ("Date", 0)], status=status), again(ORIGIN), cache=cache,
    )  # fmt: skip
case(
    "status-599-must-understand", MUST, cc("max-age=3600, no-store, must-understand", status=599, wait=0), again(ORIGIN)
)
case("status-200-must-understand", BETTER, cc("max-age=3600, no-store, must-understand", wait=0), again(CACHED))

# Directives of the request.


def asks(text: str, source: str, **more: Any) -> Step:
    return again(source, ask=[("Cache-Control", text)], **more)


case("ccreq-ma0", SHOWS, fresh(), asks("max-age=0", ORIGIN))
case("ccreq-ma1", SHOWS, fresh(), asks("max-age=1", ORIGIN))
case("ccreq-magreaterage", SHOWS, fresh(("Age", "1800")), asks("max-age=600", ORIGIN))
case("ccreq-max-stale", SHOWS, short(), asks("max-stale=1000", CACHED))
case(
    "ccreq-max-stale-age",
    SHOWS,
    Step([("Cache-Control", "max-age=1500"), ("Age", "2000")]),
    asks("max-stale=1000", CACHED),
)
case("ccreq-min-fresh", SHOWS, cc("max-age=1500"), asks("min-fresh=2000", ORIGIN))
case(
    "ccreq-min-fresh-age",
    SHOWS,
    Step([("Cache-Control", "max-age=1500"), ("Age", "1000")]),
    asks("min-fresh=1000", ORIGIN),
)
case("ccreq-no-cache", SHOWS, cc("max-age=3600"), asks("no-cache", ORIGIN))
case(
    "ccreq-no-cache-lm",
    SHOWS,
    dated(("Cache-Control", "max-age=3600"), ("Last-Modified", -10000)),
    asks("no-cache", DATE),
)
case(
    "ccreq-no-cache-etag", SHOWS, Step([("Cache-Control", "max-age=3600"), ("ETag", '"some"')]), asks("no-cache", ETAG)
)
case("ccreq-no-store", SHOWS, fresh(), asks("no-store", ORIGIN))
case("ccreq-oic", SHOWS, asks("only-if-cached", "", expect_status=504))
case("pragma-request-no-cache", SHOWS, fresh(), again(CACHED, ask=[("Pragma", "no-cache")]))
case("pragma-request-extension", SHOWS, fresh(), again(CACHED, ask=[("Pragma", "unrecognised-extension")]))
case(
    "pragma-response-no-cache", SHOWS, Step([("Cache-Control", "max-age=3600"), ("Pragma", "no-cache")]), again(CACHED)
)
case(
    "pragma-response-no-cache-heuristic", SHOWS, dated(("Last-Modified", -10000), ("Pragma", "no-cache")), again(CACHED)
)
case(
    "pragma-response-extension", SHOWS,
    Step([("Cache-Control", "max-age=3600"), ("Pragma", "unrecognised-extension")]), again(CACHED),
)  # fmt: skip
