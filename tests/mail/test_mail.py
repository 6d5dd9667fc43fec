"""A mail: nothing that a stranger writes becomes a header, and everybody can read it."""

from __future__ import annotations

import email
import email.policy

import pytest

from consona.errors import ValidationError
from consona.mail import Mail
from consona.mail.addresses import mailbox

SHOP = mailbox("Shop <shop@example.org>", field="sender")
GOOD = {"to": "ada@example.org", "subject": "Hello", "text": "How are you?"}


def composed(**more):
    data = Mail(**(GOOD | more)).compose(SHOP).as_bytes()
    return email.message_from_bytes(data, policy=email.policy.default)


def test_it_has_what_every_mail_needs():
    message = composed()
    assert message["From"] == "Shop <shop@example.org>"
    assert message["To"] == "ada@example.org"
    assert message["Subject"] == "Hello"
    assert message["Date"].datetime.tzinfo is not None
    assert message["Message-ID"].endswith("@example.org>")
    assert message.get_content().strip() == "How are you?"


def test_each_mail_has_an_id_of_its_own():
    assert composed()["Message-ID"] != composed()["Message-ID"]


def test_every_script_arrives_as_it_was_written():
    message = composed(subject="Grüße 🎉", text="Здравствуйте\n.\nEnde", to="Åsa Öberg <asa@exämple.org>")
    assert message["Subject"] == "Grüße 🎉"
    assert message.get_content().splitlines() == ["Здравствуйте", ".", "Ende"]
    assert message["To"].addresses[0].display_name == "Åsa Öberg"
    assert message["To"].addresses[0].addr_spec == "asa@xn--exmple-cua.org"


def test_html_stands_beside_the_text():
    message = composed(html="<p>How are you?</p>")
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message.get_body(("plain",)).get_content().strip() == "How are you?"


def test_other_headers_are_sent():
    message = composed(headers={"List-Unsubscribe": "<https://shop.example/x>"}, reply_to="Help <help@example.org>")
    assert message["List-Unsubscribe"] == "<https://shop.example/x>"
    assert message["Reply-To"] == "Help <help@example.org>"


BREAKS = ["\r\nBcc: all@example.org", "\nBcc: all@example.org", "\rBcc: all@example.org", "\r\n\r\nText", "\0", "\x0b",
          "\x0c", "\x85", "\u2028", "\u2029"]  # fmt: skip


@pytest.mark.parametrize("text", BREAKS, ids=[ascii(each).strip("'")[:6] for each in BREAKS])
@pytest.mark.parametrize("field", ["to", "subject", "reply_to", "headers", "header_name"])
def test_no_header_can_be_smuggled_in(field, text):
    bad = {
        "to": {"to": f"Ada{text} <ada@example.org>"},
        "subject": {"subject": f"Hello{text}"},
        "reply_to": {"reply_to": f"ada@example.org{text}"},
        "headers": {"headers": {"X-Shop": f"a{text}"}},
        "header_name": {"headers": {f"X-Shop{text}": "a"}},
    }[field]
    with pytest.raises(ValidationError) as caught:
        Mail(**(GOOD | bad))
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        {"to": []},
        {"to": ["ada@example.org"] * 101},
        {"to": "nobody"},
        {"to": "ada@example.org, bob@example.org"},
        {"subject": "x" * 401},
        {"headers": {"From": "x@example.org"}},
        {"headers": {"Bcc": "x@example.org"}},
        {"headers": {"Content-Type": "text/html"}},
        {"headers": {"a b": "x"}},
        {"headers": {"X-A": "x" * 1000}},
    ],
    ids=str,
)
def test_what_is_no_mail_is_refused(bad):
    with pytest.raises(ValidationError) as caught:
        Mail(**(GOOD | bad))
    assert caught.value.fields


def test_nothing_of_it_is_shown_by_accident():
    shown = repr(Mail(**(GOOD | {"text": "kohlrabi", "html": "kohlrabi"})))
    assert "kohlrabi" not in shown
