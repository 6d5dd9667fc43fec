"""Webhooks after the Standard Webhooks specification: sent, received, signed and verified."""

from consona.rest.webhooks.delivery import RETRY_SCHEDULE, Delivery, DeliverySettings, Endpoint
from consona.rest.webhooks.receiver import WebhookReceiver
from consona.rest.webhooks.rejections import (
    AddressRefused,
    SignatureMissing,
    SignatureWrong,
    TimestampRefused,
    WebhookBusy,
    WebhookRejected,
    WebhookReplayed,
)
from consona.rest.webhooks.sender import WebhookSender
from consona.rest.webhooks.signing import new_secret, sign, verify
from consona.rest.webhooks.webhook import Webhook

__all__ = [
    "RETRY_SCHEDULE",
    "AddressRefused",
    "Delivery",
    "DeliverySettings",
    "Endpoint",
    "SignatureMissing",
    "SignatureWrong",
    "TimestampRefused",
    "Webhook",
    "WebhookBusy",
    "WebhookReceiver",
    "WebhookRejected",
    "WebhookReplayed",
    "WebhookSender",
    "new_secret",
    "sign",
    "verify",
]
