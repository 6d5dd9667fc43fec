"""Several processes at one key file, and one that is killed while it writes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys

from consona.auth.jwt_manager import JWTManager
from consona.auth.key_file import KeyFile

FIRST_START = """
import asyncio, sys
from consona.auth.jwt_manager import JWTManager

async def main():
    async with JWTManager(sys.argv[1], issuer="shop") as tokens:
        print("ready", flush=True)
        sys.stdin.readline()
        print(tokens.issue("u").text, flush=True)

asyncio.run(main())
"""

ROTATE_FOR_EVER = """
import sys
from consona.auth.key_file import KeyFile

file = KeyFile(sys.argv[1])
print("ready", flush=True)
while True:
    file.change(lambda ring: ring.rotated(now=1.0, lead=0.0, keep=0.0) if len(ring.keys) < 40 else ring)
"""

ROTATE_TEN_TIMES = """
import sys
from consona.auth.key_file import KeyFile

for _ in range(10):
    KeyFile(sys.argv[1]).change(lambda ring: ring.rotated(now=1.0, lead=0.0, keep=9.0))
"""


def process(program, path):
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


async def test_processes_that_start_at_once_make_one_key_between_them(tmp_path):
    path = tmp_path / "keys.json"
    started = [process(FIRST_START, path) for _ in range(4)]
    assert [each.stdout.readline() for each in started] == ["ready\n"] * 4
    tokens = [each.communicate("go\n", timeout=30)[0].strip() for each in started]
    assert len(KeyFile(path).load().keys) == 1
    async with JWTManager(path, issuer="shop") as here:
        assert [here.verify(token).subject for token in tokens] == ["u"] * 4


async def test_no_rotation_is_lost_when_processes_rotate_at_once(tmp_path):
    path = tmp_path / "keys.json"
    async with JWTManager(path, issuer="shop"):
        pass
    started = [process(ROTATE_TEN_TIMES, path) for _ in range(4)]
    assert [each.communicate(timeout=60) and each.returncode for each in started] == [0] * 4
    assert len(KeyFile(path).load().keys) == 41


async def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(tmp_path):
    path = tmp_path / "keys.json"
    async with JWTManager(path, issuer="shop") as tokens:
        [first] = [key["kid"] for key in tokens.jwks()["keys"]]
    for pause in (0.0, 0.001, 0.004, 0.01, 0.02):
        writer = process(ROTATE_FOR_EVER, path)
        try:
            assert writer.stdout.readline() == "ready\n"
            await asyncio.sleep(pause)  # killed wherever it then is
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
        assert json.loads(path.read_text())["keys"]
        ring = KeyFile(path).load()
        KeyFile(path).change(lambda ring: ring)  # the lock went with the process
        assert first in ring.keys
