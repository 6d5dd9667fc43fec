"""Writes src/consona/auth/common_passwords.bloom: the passwords that everybody tries first, as a compact filter.

    uv run --no-project --with django==5.2.19 --with zxcvbn==4.5.0 scripts/common_passwords.py

The lists, both made from passwords of real breaches by how often they were found:

- Django's `common-passwords.txt.gz`, 20,000 passwords (BSD 3-Clause; its source: Royce Williams).
- zxcvbn's list `passwords`, 30,000 passwords (MIT; Dan Wheeler, Dropbox; the Python package by Daniel Wolf).

Neither list can be read back from the filter.
"""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import sys
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).parent.parent
AUTH = ROOT / "src" / "consona" / "auth"
FALSE_POSITIVES = 1e-5


def passwords() -> set[str]:
    lists = importlib.import_module("zxcvbn.frequency_lists").FREQUENCY_LISTS
    packed = (resources.files("django.contrib.auth") / "common-passwords.txt.gz").read_bytes()
    words = {*gzip.decompress(packed).decode().split("\n"), *lists["passwords"]}
    return {word.casefold() for word in words if len(word) >= 4}


def main() -> None:
    spec = importlib.util.spec_from_file_location("bloom", AUTH / "bloom.py")  # alone, as Consona is not installed here
    bloom = importlib.util.module_from_spec(spec)
    sys.modules["bloom"] = bloom
    spec.loader.exec_module(bloom)
    words = passwords()
    data = bloom.Bloom.of(words, false_positives=FALSE_POSITIVES).written()
    (AUTH / "common_passwords.bloom").write_bytes(data)
    print(f"{len(words)} passwords in {len(data)} bytes.")


if __name__ == "__main__":
    main()
