"""The cases of the public test suite for HTTP caches, over a real server on loopback. See `http_cache_cases.py`.

Each known failure stands in `FAILS` with its reason, which the docs repeat: a case that fails beyond them, or that
passes although it stands there, fails this test. The share that passes is printed (`pytest -rP` shows it).
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from consona.errors import ConsonaError
from consona.rest.caching.fields import format_date
from consona.rest.caching.transport import CachingTransport, HTTPCache
from consona.rest.client.aiohttp_transport import AiohttpTransport
from consona.rest.transport import Request
from http_cache_cases import Case, Step
from http_cache_more_cases import CASES, PRIVATE, SHARED
from http_origin import Asked, Origin, Said

BODY = "a body of some 36 bytes, or close to"


class Failed(Exception):
    pass


def check(fits: bool, what: str) -> None:
    if not fits:
        raise Failed(what)


class Run:
    """One case, over one transport. The clock is the case's own."""

    def __init__(self, case: Case, transport: CachingTransport, origin: Origin, clock: list[float]) -> None:
        self.case = case
        self.transport = transport
        self.origin = origin
        self.clock = clock
        self.began = clock[0]
        self.base = f"/{case.id.replace('=', '-')}"

    def value(self, name: str, value) -> str:
        if isinstance(value, int):
            return format_date(self.clock[0] + value)
        match value:
            case ("self",):
                return self.origin.url + self.base + "/"
            case ("below", path):
                return f"{self.base}/{path}"
            case ("rfc850", seconds):
                return time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(self.clock[0] + seconds))
        return value

    def fields(self, pairs) -> list[tuple[str, str]]:
        return [(name, self.value(name, value)) for name, value in pairs]

    def answer(self, asked: Asked) -> Said:
        number = int(asked.header("Step"))
        step = self.case.steps[number - 1]
        self.clock[0] += step.slow
        headers = [("Step", str(number)), *self.sent(number)]
        status = step.status
        if step.source in {"etag", "date"}:
            before = dict(self.sent(number - 1))
            tag, modified = before.get("ETag"), before.get("Last-Modified")
            same_tag = tag is not None and asked.header("If-None-Match") == tag
            same_date = modified is not None and asked.header("If-Modified-Since") == modified
            status = 304 if same_tag or same_date else 599
        body = (step.body or BODY).encode()
        length = next((int(text) for name, text in headers if name == "Content-Length"), len(body))
        return Said(status, headers, body[:length], interim=step.interim, hang_up=step.hang_up)

    def sent(self, number: int) -> list[tuple[str, str]]:
        """The fields of a step's answer; once sent they stay, as does a date in them."""
        if number not in self.made:
            self.made[number] = self.fields(self.case.steps[number - 1].answer)
        return self.made[number]

    async def run(self) -> None:
        self.made: dict[int, list[tuple[str, str]]] = {}
        self.origin.answer = self.answer
        for number, step in enumerate(self.case.steps, start=1):
            seen = len(self.origin.asked)
            await self.step(number, step, seen)
            await self.transport.settled()
            self.clock[0] += step.wait

    async def step(self, number: int, step: Step, seen: int) -> None:
        ask = [("Step", str(number)), *self.fields(step.ask)]
        if step.ask and step.ask[0][0] == "If-Modified-Since":
            modified = dict(self.sent(number - 1)).get("Last-Modified")
            if modified and step.source == "date":
                ask[1] = ("If-Modified-Since", modified)
        url = f"{self.origin.url}{self.base}/{step.path}"
        body = step.sends.encode() or None
        try:
            answer = await self.transport.send(Request(step.method, url, ask, body))
        except ConsonaError:
            check(step.hang_up and step.source != "cached", "the request failed")
            return
        content = b""
        while piece := await answer.chunk():
            content += piece
        await answer.close()
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
        self.judge(number, step, answer, headers, content.decode(), self.origin.asked[seen:])

    def judge(self, number: int, step: Step, answer, headers, text: str, asked: list[Asked]) -> None:
        named = {name.lower(): value for name, value in headers}
        origin_step = named.get("step")
        if step.source == "cached":
            cached = getattr(answer, "from_cache", False)
            check(
                cached and (origin_step is None or int(origin_step) < number),
                f"step {number} did not come from the cache",
            )
        elif step.source == "origin":
            check(origin_step == str(number), f"step {number} came from the cache")
        elif step.source:
            condition = "If-None-Match" if step.source == "etag" else "If-Modified-Since"
            check(bool(asked) and asked[0].header(condition) is not None, f"step {number} was not validated")
        wanted = step.expect_status or (200 if step.source in {"etag", "date"} else step.status)
        check(answer.status == wanted, f"step {number} has status {answer.status}, not {wanted}")
        for name, value in step.expect:
            found = named.get(name.lower())
            check(found is not None, f"step {number} lacks {name}")
            match value:
                case ("above", least):
                    check(int(found) > least, f"step {number}: {name} is {found}")
                case ("any",):
                    pass
                case int():
                    check(found == format_date(self.began + value), f"step {number}: {name} is {found}")
                case _:
                    check(found == value, f"step {number}: {name} is {found}")
        for field in step.missing:
            name, _, value = field.partition(": ")
            check(
                name.lower() not in named or bool(value and named[name.lower()] != value), f"step {number} has {name}"
            )
        for name, value in step.seen:
            check(
                bool(asked) and asked[0].header(name) == self.value(name, value),
                f"step {number}: the origin saw no such {name}",
            )
        if step.seen_method:
            check(bool(asked) and asked[0].method == step.seen_method, f"step {number}: the origin was not asked")
        if step.interim_seen is not None:
            interim = getattr(answer, "interim", [])
            check(interim == step.interim_seen, f"step {number}: interim answers {interim}")
        if step.text is not None:
            check(text == step.text, f"step {number}: the body is {text!r}")


FIRST = "Of two equal directives the first counts (RFC 9111, 4.2.1, leaves the choice)."
STRICT = "A number of seconds that is none makes an answer old (RFC 9111, 4.2.1, encourages that)."
AGE = "An `Age` that is no number is ignored, as RFC 9111, 5.1, says."
UNASKED = "A stale answer stands in for an error only where the origin allows it (`stale-if-error`)."
WARNING = "`Warning` is obsolete since RFC 9111, 5.5; and nothing stale is given out without leave."
TENTH = "A tenth of the time since the last change is over by then."
LANGUAGE = "The order of languages may carry meaning, and choosing among them is the origin's."
TAGS = "A tag with quotes and one without are two."
IMS = "Without `Last-Modified` the date counts (RFC 9111, 4.3.2); it is after the one asked about, so a 304 is wrong."
OTHER = "Validators of answers to other variants are not sent."
AS_IS = "Fields are sent as the origin or the caller wrote them."
BODY_FIELD = "It describes the kept body, which a 304 does not change (RFC 9111, 3.2)."
NEW_TAG = "A 304 with another tag is not about the kept answer (RFC 9111, 4.3.4): it is asked for anew."
HEAD = "A HEAD whose answer has no validator does not prove that the kept body still holds, so that is over."
HEAD_AS_IS = "The answer to a HEAD is given out as it came; it was not given out from the store."
PARTIAL = "Parts (206) are not kept; parts of a whole that is kept are given out."
COOKIE = "A private cache keeps the answers for each set of cookies apart: a cookie may say who is asking."
DELAY = "An answer that came from the origin is given out as it came."
INTERIM = "Transports do not hand on answers before the answer (102, 103); the final one is kept and given out rightly."

FAILS: dict[str, str] = {
    "freshness-max-age-two-stale-fresh-sameline": FIRST,
    "freshness-max-age-two-stale-fresh-sepline": FIRST,
    "freshness-max-age-decimal-zero": STRICT,
    "freshness-max-age-decimal-five": STRICT,
    "freshness-max-age-a100": STRICT,
    "freshness-max-age-100a": STRICT,
    "age-parse-parameter": AGE,
    "age-parse-numeric-parameter": AGE,
    "stale-close": UNASKED,
    "stale-503": UNASKED,
    "stale-warning-stored": WARNING,
    "stale-warning-become": WARNING,
    "heuristic-delta-5": TENTH,
    "heuristic-delta-10": TENTH,
    "heuristic-delta-30": TENTH,
    "vary-normalise-lang-order": LANGUAGE,
    "vary-normalise-lang-select": LANGUAGE,
    "conditional-lm-fresh-no-lm": IMS,
    "conditional-etag-quoted-respond-unquoted": TAGS,
    "conditional-etag-unquoted-respond-quoted": TAGS,
    "conditional-etag-vary-headers-mismatch": OTHER,
    "conditional-etag-strong-generate-unquoted": AS_IS,
    "conditional-etag-forward-unquoted": AS_IS,
    "304-etag-update-response-Content-Encoding": BODY_FIELD,
    "304-etag-update-response-Content-Range": BODY_FIELD,
    "304-etag-update-response-ETag": NEW_TAG,
    "head-200-retain": HEAD_AS_IS,
    "head-200-freshness-update": HEAD,
    "head-200-update": HEAD,
    "head-410-update": HEAD,
    "partial-store-partial-reuse-partial": PARTIAL,
    "partial-store-partial-reuse-partial-byterange": PARTIAL,
    "partial-store-partial-reuse-partial-absent": PARTIAL,
    "partial-store-partial-reuse-partial-suffix": PARTIAL,
    "partial-store-partial-complete": PARTIAL,
    "other-age-delay": DELAY,
    "interim-102": INTERIM,
    "interim-103": INTERIM,
    "interim-not-cached": INTERIM,
    "interim-no-header-reuse": INTERIM,
}
FAILS_PRIVATE = {"other-cookie": COOKIE}
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "http-caching.md"


class Lent:
    """A transport that several caches use one after the other."""

    def __init__(self, transport: AiohttpTransport) -> None:
        self.send = transport.send

    async def open(self) -> None: ...

    async def close(self) -> None: ...


async def outcome(case: Case, lent: Lent, origin: Origin, *, shared: bool) -> str:
    """Empty where it passed, else what went wrong."""
    clock = [1_700_000_000.0]
    cache = HTTPCache("memory://public-cases", shared=shared, heuristic=True, clock=lambda: clock[0])
    transport = CachingTransport(lent, cache)
    await transport.open()
    try:
        await Run(case, transport, origin, clock).run()
    except Failed as failure:
        return str(failure)
    finally:
        await transport.close()
    return ""


@pytest.mark.parametrize("kind", [PRIVATE, SHARED])
async def test_the_public_cases_pass_but_for_the_known_ones(kind):
    cases = [case for case in CASES if case.cache in {"both", kind}]
    network = AiohttpTransport()
    await network.open()
    async with Origin(lambda _: Said(404)) as origin:
        found = {case.id: await outcome(case, Lent(network), origin, shared=kind == SHARED) for case in cases}
    await network.close()
    passed = Counter(case.kind for case in cases if not found[case.id])
    total = Counter(case.kind for case in cases)
    shares = ", ".join(f"{name} {passed[name]} of {total[name]}" for name in ("must", "better", "shows"))
    line = f"{kind}: {sum(passed.values())} of {len(cases)} pass ({shares})"
    print(line)
    known = FAILS | (FAILS_PRIVATE if kind == PRIVATE else {})
    assert {id_: why for id_, why in found.items() if why and id_ not in known} == {}
    assert [id_ for id_, why in found.items() if not why and id_ in known] == []
    assert line in PAGE.read_text(encoding="utf-8"), "the page states the share that this run printed"


def test_the_page_explains_each_failure():
    page = PAGE.read_text(encoding="utf-8")
    for id_, reason in (FAILS | FAILS_PRIVATE).items():
        assert f"`{id_}`" in page, id_
        assert reason in page, reason


def test_no_case_stands_there_twice():
    assert len({case.id for case in CASES}) == len(CASES)
