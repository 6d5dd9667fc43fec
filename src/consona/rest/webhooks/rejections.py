"""Why a webhook was not taken, or not sent.

    AuthenticationError
    └── WebhookRejected           401: not, or not provably, from whom it should be
        ├── SignatureMissing      a header is missing, given twice, or not what the specification says
        ├── SignatureWrong        none of its signatures was made with one of our secrets
        └── TimestampRefused      it was signed too long ago, or in the future
    Conflict
    └── WebhookReplayed           409: a webhook with this id was taken before
    HTTPError
    └── WebhookBusy               503: the same webhook is being worked on at this moment
    DeliveryError
    └── AddressRefused            the endpoint leads into a network that webhooks may not reach

A body that is too long is a `BodyTooLarge`, one that does not fit its type a `ValidationError`.
"""

from __future__ import annotations

from consona.errors import AuthenticationError, Conflict, DeliveryError
from consona.rest.server.problems import HTTPError

__all__ = [
    "AddressRefused",
    "SignatureMissing",
    "SignatureWrong",
    "TimestampRefused",
    "WebhookBusy",
    "WebhookRejected",
    "WebhookReplayed",
]


class WebhookRejected(AuthenticationError):
    """The webhook is not, or not provably, from whom it should be. Its body must not be used."""

    code = "webhook.rejected"


class SignatureMissing(WebhookRejected):
    """A header of the signature is missing, given twice, or not what the specification says."""

    code = "webhook.signature_missing"
    hint = "The sender must send webhook-id, webhook-timestamp and webhook-signature, each once."


class SignatureWrong(WebhookRejected):
    """None of the signatures was made with one of our secrets, for this id, time and body."""

    code = "webhook.signature_wrong"
    hint = "Compare the secrets, and verify the body as it came: parsing and writing it again changes its bytes."


class TimestampRefused(WebhookRejected):
    """The webhook was signed too long ago, or lies in the future."""

    code = "webhook.timestamp"
    hint = "Compare the clocks of both machines; a webhook that was recorded cannot be sent again."


class WebhookReplayed(Conflict):
    """A webhook with this id was taken before; its work is done."""

    code = "webhook.replayed"
    hint = "Answer it with success, so that the sender stops: `receive` does."


class WebhookBusy(HTTPError):
    """The same webhook is being worked on at this moment; whether that succeeds is not known yet."""

    code = "webhook.busy"
    status = 503
    retryable = True


class AddressRefused(DeliveryError):
    """The endpoint leads into a network that webhooks may not reach: this machine, or a private one."""

    code = "webhook.address_refused"
    hint = "Where endpoints are your own: DeliverySettings(private_networks=True)."
