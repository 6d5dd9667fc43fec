"""Tokens: what it costs to verify one, beside the bare libraries that do the same work.

The peers verify the signature and check `iss`, `aud` and the times; ours checks more, counts each call, and keeps it
in its history.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from benchmarks.table import Row, markdown

from consona.auth.jwt_manager import JWTManager, TokenSettings
from consona.auth.keys import SigningKey

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
            for name, peer in (("joserfc", joserfc_verify(text, key)), ("PyJWT", pyjwt_verify(text, key))):
                samples = side_by_side(verify, peer)
                rows.append(Row("auth", f"verify a token, {key.algorithm}", name, *samples, "1/s", goal=0.9))
            samples = side_by_side(again, 50_000.0, 20_000)
            rows.append(Row("auth", f"verify it again, {key.algorithm}", "the goal", *samples, "1/s", goal=1.0))
    return rows


def run() -> list[Row]:
    return asyncio.run(measure())


if __name__ == "__main__":
    print(markdown(run()))
