"""Tokens and passwords: what it costs to check one, beside the bare libraries that do the same work.

The peers verify a token's signature and check `iss`, `aud` and the times; ours checks more, counts each call, and
keeps it in its history. A password's floor is Argon2 itself, called at once in this thread, at the same cost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from argon2 import PasswordHasher
from benchmarks.table import Row, markdown

from consona.auth.jwt_manager import JWTManager, TokenSettings
from consona.auth.keys import SigningKey
from consona.auth.passwords import PasswordHashes

ROUNDS = 7
TIMES = 1_000
SECRET = "a secret for the benchmark alone, of no use elsewhere"

Work = Callable[[], object]


def per_second(work: Work, times: int = TIMES) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        work()
    return times / (time.perf_counter() - begin)


def side_by_side(ours: Work, peer: Work | float, times: int = TIMES) -> tuple[list[float], list[float]]:
    ours_rates, peer_rates = [], []
    for _ in range(ROUNDS):
        ours_rates.append(per_second(ours, times))
        peer_rates.append(peer if isinstance(peer, float) else per_second(peer, times))
    return ours_rates, peer_rates


def joserfc_verify(text: str, key: SigningKey) -> Work:
    import warnings

    from joserfc import jwt

    checks = jwt.JWTClaimsRegistry(iss={"essential": True, "value": "bench"}, aud={"essential": True, "value": "bench"})

    def work() -> object:
        token = jwt.decode(text, key.key, algorithms=[key.algorithm])
        checks.validate(token.claims)
        return token

    warnings.simplefilter("ignore")  # it warns of the name EdDSA at each call (RFC 9864)
    return work


def authlib_verify(text: str, key: SigningKey) -> Work:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that joserfc, of the same author, will take its place
        from authlib.jose import JsonWebToken

    reader = JsonWebToken([key.algorithm])
    raw = key.key.raw_value if key.algorithm == "HS256" else key.key.as_dict(private=False)
    options = {"iss": {"essential": True, "value": "bench"}, "aud": {"essential": True, "value": "bench"}}

    def work() -> object:
        claims = reader.decode(text, raw, claims_options=options)
        claims.validate()
        return claims

    return work


def pyjwt_verify(text: str, key: SigningKey) -> Work:
    import jwt

    raw = key.key.raw_value if key.algorithm == "HS256" else key.key.public_key
    return lambda: jwt.decode(text, raw, algorithms=[key.algorithm], audience="bench", issuer="bench")


async def measure() -> list[Row]:
    rows = []
    for key in (SigningKey.generate("EdDSA"), SigningKey.from_secret(SECRET)):
        async with (
            JWTManager(key, issuer="bench", settings=TokenSettings(cache=0)) as uncached,
            JWTManager(key, issuer="bench") as cached,
        ):
            text = cached.issue("user-7", roles=["editor"], scopes=["posts:read"]).text
            verify, again = partial(uncached.verify, text), partial(cached.verify, text)
            for name, peer in (
                ("joserfc", joserfc_verify(text, key)),
                ("PyJWT", pyjwt_verify(text, key)),
                ("Authlib", authlib_verify(text, key)),
            ):
                samples = side_by_side(verify, peer)
                rows.append(Row("auth", f"verify a token, {key.algorithm}", name, *samples, "1/s", goal=0.9))
            samples = side_by_side(again, 50_000.0, 20_000)
            rows.append(Row("auth", f"verify it again, {key.algorithm}", "the goal", *samples, "1/s", goal=1.0))
    return rows + await measure_passwords()


async def measure_passwords() -> list[Row]:
    """One check after the other, and how long the event loop is kept waiting while they are made without pause."""
    floor, ours, known, unknown, lags, goal = [], [], [], [], [], [5.0] * ROUNDS
    async with PasswordHashes() as hashes:
        kept = await hashes.make("correct horse battery staple")
        bare = PasswordHasher()
        for _ in range(ROUNDS * 3):
            begin = time.perf_counter()
            bare.verify(kept, "correct horse battery staple")
            floor.append((time.perf_counter() - begin) * 1e3)
            for samples, hashed, word in (
                (ours, kept, "correct horse battery staple"),
                (known, kept, "wrong"),
                (unknown, None, "wrong"),
            ):
                begin = time.perf_counter()
                await hashes.verify(hashed, word)
                samples.append((time.perf_counter() - begin) * 1e3)
        for _ in range(ROUNDS):
            busy = asyncio.gather(*(hashes.verify(kept, "wrong") for _ in range(8)))
            lags.append(await lag(busy))
    return [
        Row("auth", "check a password", "argon2-cffi", ours, floor, "ms", goal=1.1, higher_is_better=False),
        Row("auth", "nobody of that name", "a wrong password", unknown, known, "ms", goal=1.1, higher_is_better=False),
        Row("auth", "loop lag p99 at 8 checks", "the goal", lags, goal, "ms", goal=1.0, higher_is_better=False),
    ]


async def lag(work: Awaitable[object]) -> float:
    """How late a timer of 1 ms comes while `work` is under way: the 99th percentile, in milliseconds."""
    late = []
    done = asyncio.ensure_future(work)
    while not done.done():
        begin = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - begin - 0.001) * 1e3)
    return sorted(late)[int(len(late) * 0.99)]


def run() -> list[Row]:
    return asyncio.run(measure())


if __name__ == "__main__":
    print(markdown(run()))
