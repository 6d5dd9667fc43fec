from __future__ import annotations

import pytest

from consona.errors import APIError, BulkheadFull, ConnectError, DeadlineExceeded
from consona.rest.client.errors import BadAnswer, ConnectionLost
from consona.rest.client.safe_retry import if_safe, if_unsent, retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 60.0),
        ("Thursday, 01-Jan-70 00:01:00 GMT", 60.0),
        ("Wed, 31 Dec 1969 00:00:00 GMT", 0.0),
        ("-1", None),
        ("1.5", None),
        ("9999999999999", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(text, seconds):
    assert retry_after(text, clock=lambda: 0.0) == seconds


@pytest.mark.parametrize(
    ("error", "unsent", "safe"),
    [
        (ConnectError("x"), True, True),
        (ConnectError("x", retryable=False), False, False),
        (BulkheadFull("x"), True, True),
        (ConnectionLost("x"), False, True),
        (DeadlineExceeded("x", phase="read"), False, True),
        (DeadlineExceeded("x"), False, False),
        (BadAnswer("x"), False, False),
        (APIError("x", status=503), False, True),
        (APIError("x", status=409), False, False),
        (APIError("x", status=409, retry_after=1.0), False, True),
        (APIError("x", status=500), False, False),
        (ValueError("x"), False, False),
    ],
)
def test_what_is_worth_another_try(error, unsent, safe):
    assert (if_unsent(error), if_safe(error)) == (unsent, safe)
