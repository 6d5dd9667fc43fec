"""Mails through a real SMTP server: with TLS, with a password, refused, slow, broken, away."""

from __future__ import annotations

import asyncio
import email
import email.policy

import pytest

from certificates import ca_file
from consona.errors import AddressError, ConfigurationError, ConnectError, DeadlineExceeded, NotStarted, ValidationError
from consona.mail import Mail, Mailer
from consona.mail.transport import MailRefused, MailUnknown
from consona.part import Status
from consona.resilience import Policy, Retry
from mail_server import SECRET, USER, Postbox, mailer_to, smtp_server

MAIL = Mail(to="ada@example.org", subject="Your order", text="It is on its way.\n.\nBye", html="<p>On its way</p>")
AT_ONCE = Policy(timeout=20.0, retry=Retry(attempts=3, backoff=0.0))


def read(text):
    return email.message_from_string(text, policy=email.policy.default)


@pytest.fixture
async def postbox():
    return Postbox()


async def test_a_mail_arrives_as_it_was_written(postbox):
    async with smtp_server(postbox) as port, mailer_to(port) as mailer:
        id_ = await mailer.send(MAIL)
        message = read(postbox.mails[0])
        assert (message["Message-ID"], message["Subject"]) == (id_, "Your order")
        assert message.get_body(("plain",)).get_content().splitlines() == ["It is on its way.", ".", "Bye"]
        assert postbox.envelopes[0].mail_from == "shop@example.org"
        assert mailer.stats.succeeded == 1


async def test_several_get_one_mail(postbox):
    async with smtp_server(postbox) as port, mailer_to(port) as mailer:
        await mailer.send(Mail(to=["a@example.org", "Bo <b@exämple.org>"], subject="x", text="y"))
        assert postbox.envelopes[0].rcpt_tos == ["a@example.org", "b@xn--exmple-cua.org"]


async def test_an_address_beyond_ascii_is_told_to_a_server_that_knows_such(postbox):
    async with smtp_server(postbox) as port, mailer_to(port) as mailer:
        await mailer.send(Mail(to="ünü@example.org", subject="Grüße", text="y"))
        assert postbox.envelopes[0].rcpt_tos == ["ünü@example.org"]
        assert read(postbox.mails[0])["Subject"] == "Grüße"


@pytest.mark.parametrize("tls", ["starttls", "smtps"])
async def test_mails_and_the_password_go_encrypted(postbox, tls):
    scheme = "smtps" if tls == "smtps" else "smtp"
    async with smtp_server(postbox, tls=tls, auth=True) as port:
        url = f"{scheme}://{USER}:{SECRET}@localhost:{port}?ca={ca_file()}"
        async with Mailer(url, sender="shop@example.org") as mailer:
            assert (await mailer.check()).status is Status.UP
            await mailer.send(MAIL)
    assert len(postbox.mails) == 1


@pytest.mark.parametrize("tls", ["starttls", "smtps"])
@pytest.mark.parametrize("wrong", ["unknown authority", "other name"])
async def test_a_certificate_that_does_not_count_ends_it(postbox, tls, wrong):
    scheme = "smtps" if tls == "smtps" else "smtp"
    other = wrong == "other name"
    async with smtp_server(postbox, tls=tls, name="mail.example" if other else "localhost") as port:
        url = f"{scheme}://localhost:{port}" + (f"?ca={ca_file()}" if other else "")
        async with Mailer(url, sender="shop@example.org", policy=Policy(timeout=20)) as mailer:
            with pytest.raises(ConnectError) as caught:
                await mailer.send(MAIL)
    assert "certificate does not count" in str(caught.value)
    assert postbox.mails == []


async def test_a_server_without_starttls_gets_nothing(postbox):
    async with smtp_server(postbox, auth=True) as port:
        url = f"smtp://{USER}:{SECRET}@127.0.0.1:{port}"
        async with Mailer(url, sender="shop@example.org", policy=AT_ONCE) as mailer:
            with pytest.raises(MailRefused) as caught:
                await mailer.send(MAIL)
    assert "STARTTLS" in str(caught.value)
    assert postbox.mails == []


async def test_a_wrong_password_is_told_and_not_shown(postbox, caplog):
    async with (
        smtp_server(postbox, auth=True) as port,
        Mailer(f"smtp://{USER}:wrong-kohlrabi@127.0.0.1:{port}?tls=off", sender="shop@example.org") as mailer,
    ):
        with pytest.raises(MailRefused) as caught:
            await mailer.send(MAIL)
        assert (await mailer.check()).status is Status.DOWN
        shown = f"{caught.value!r} {caught.value} {mailer.history} {mailer!r} {caplog.text}"
    assert "user and password" in str(caught.value)
    assert "kohlrabi" not in shown


async def test_a_refused_recipient_ends_it_before_anybody_has_the_mail(caplog):
    postbox = Postbox(refuses={"nobody@example.org"})
    async with smtp_server(postbox) as port, mailer_to(port, policy=AT_ONCE) as mailer:
        with pytest.raises(MailRefused) as caught:
            await mailer.send(Mail(to=["ada@example.org", "nobody@example.org"], subject="x", text="y"))
        assert "recipient 2 of 2 (550)" in str(caught.value)
        assert (postbox.mails, postbox.connections) == ([], 1)
        assert "nobody" not in f"{caught.value!r} {mailer.history} {caplog.text}"


async def test_who_says_later_is_asked_again_with_the_same_mail():
    postbox = Postbox(answers=["451 4.3.0 Busy", "451 4.3.0 Busy"])
    async with smtp_server(postbox) as port, mailer_to(port, policy=AT_ONCE) as mailer:
        id_ = await mailer.send(MAIL)
        assert (len(postbox.mails), postbox.connections) == (1, 3)
        assert read(postbox.mails[0])["Message-ID"] == id_


async def test_who_says_no_is_not_asked_again():
    postbox = Postbox(answers=["554 5.7.1 This is spam"])
    async with smtp_server(postbox) as port, mailer_to(port, policy=AT_ONCE) as mailer:
        with pytest.raises(MailRefused) as caught:
            await mailer.send(MAIL)
        assert (caught.value.context["reply"], caught.value.retryable) == (554, False)
        assert postbox.connections == 1


async def test_a_mail_that_may_have_arrived_is_not_sent_twice():
    postbox = Postbox(breaks=1)
    async with smtp_server(postbox) as port, mailer_to(port, policy=AT_ONCE) as mailer:
        with pytest.raises(MailUnknown):
            await mailer.send(MAIL)
        assert (len(postbox.mails), postbox.connections) == (1, 1)


async def test_a_server_that_says_nothing_is_left_in_time():
    postbox = Postbox(silent=True)
    async with smtp_server(postbox) as port, mailer_to(port, policy=Policy(timeout=0.3)) as mailer:
        with pytest.raises(DeadlineExceeded):
            await mailer.send(MAIL)


async def test_a_server_that_is_away_is_named_and_found_again(postbox):
    async with smtp_server(postbox) as port:
        pass
    async with mailer_to(port, policy=AT_ONCE) as mailer:
        with pytest.raises(ConnectError) as caught:
            await mailer.send(MAIL)
        assert f"127.0.0.1:{port}" in str(caught.value)
        assert (await mailer.check()).status is Status.DOWN
        async with smtp_server(postbox, port=port):
            await mailer.send(MAIL)
    assert len(postbox.mails) == 1


async def test_what_is_no_mail_server_is_told():
    async def web(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(web, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with mailer_to(port, policy=Policy(timeout=20)) as mailer:
            with pytest.raises((ConnectError, MailRefused)):
                await mailer.send(MAIL)


async def test_a_mail_that_is_too_large_is_not_begun(postbox):
    async with smtp_server(postbox) as port, mailer_to(port) as mailer:
        with pytest.raises(ValidationError):
            await mailer.send(Mail(to="ada@example.org", subject="x", text="y\n" * 6_000_000))
        assert postbox.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "smtp://mail.example?tls=off",
        "smtps://127.0.0.1?tls=off",
        "smtp://127.0.0.1?tls=maybe",
        "smtp://127.0.0.1?nothing=1",
        "smtp://",
        "smtp://mail.example/path",
    ],
)
def test_an_address_that_would_be_unsafe_or_means_nothing_is_refused(url):
    with pytest.raises(ConfigurationError):
        Mailer(url, sender="shop@example.org")


async def test_other_mistakes_are_told(tmp_path):
    with pytest.raises(AddressError):
        Mailer("pigeon://post", sender="shop@example.org")
    with pytest.raises(ValidationError):
        Mailer("file:///mail", sender="shop")
    with pytest.raises(NotStarted):
        await Mailer("file:///mail", sender="shop@example.org").send(MAIL)
    with pytest.raises(ConfigurationError):
        await Mailer(f"smtp://localhost?ca={tmp_path}/none.pem", sender="shop@example.org").start()
