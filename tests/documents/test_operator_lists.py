"""The reference lists the operators that there are, and no others."""

import re
from pathlib import Path

import pytest

from consona.documents.expressions import known_operators as of_expressions
from consona.documents.filters import known_operators as of_filters
from consona.documents.pipeline.accumulators import ACCUMULATORS
from consona.documents.pipeline.parsing import known_stages
from consona.documents.update_operators import OPERATORS as OF_UPDATES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "documents.md"


@pytest.mark.parametrize(
    ("heading", "known"),
    [
        ("Of filters", of_filters()),
        ("Of updates", [*OF_UPDATES, "$rename"]),
        ("Stages of pipelines", known_stages()),
        ("Accumulators of", list(ACCUMULATORS)),
        ("Expressions", of_expressions()),
    ],
)
def test_the_reference_lists_the_operators(heading, known):
    section = re.search(rf"^### {heading}[^\n]*\n\n([^\n]*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert section
    assert re.findall(r"`([^`]+)`", section[1]) == sorted(known)
