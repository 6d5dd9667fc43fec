"""A foreign OpenID Connect provider for tests: npm's oidc-provider in a process of its own, and a browser to use it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp

import servers

SCRIPT = Path(__file__).parent / "oidc_provider.mjs"
SECRET = "a secret that only the tests know"


@contextmanager
def oidc_provider(redirect_uri: str, port: int = 0) -> Iterator[str]:
    """Run one, and give its issuer."""
    node = servers.need("oidc-provider")
    options = json.dumps({"redirect_uri": redirect_uri, "port": port})
    process = subprocess.Popen(
        [node, str(SCRIPT), options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"},
    )
    try:
        issuer = ""
        for line in process.stdout:
            if line.startswith("listening "):
                issuer = line.split()[1]
                break
        assert issuer, "it did not start"
        yield issuer
    finally:
        process.kill()
        process.communicate()


async def sign_in(url: str, name: str, *, back: str) -> str:
    """What a person does at the provider: follow the links, sign in, consent. Returns where they are sent back to."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        for _ in range(20):
            async with browser.get(url, allow_redirects=False) as page:
                await page.read()
                if page.status in {302, 303}:
                    url = urljoin(url, page.headers["location"])
                    if url.startswith(back):
                        return url
                    continue
                text = await page.text()
                assert page.status == 200, f"{page.status}: {text[:500]}"
            prompt = "login" if 'name="login"' in text else "consent"
            form = {"prompt": prompt, **({"login": name, "password": "any"} if prompt == "login" else {})}
            async with browser.post(url, data=form, allow_redirects=False) as done:
                assert done.status in {302, 303}, await done.text()
                url = urljoin(url, done.headers["location"])
                if url.startswith(back):
                    return url
    raise AssertionError("the provider goes round in circles")


def query(url: str) -> str:
    return urlsplit(url).query


def answer(url: str) -> dict[str, str]:
    """The parameters of a URL, each once."""
    return {name: values[0] for name, values in parse_qs(query(url)).items()}
