"""Why a connection with TLS did not come about, in words that help; and whether to try it again helps.

Source: the codes of OpenSSL's `X509_verify_cert_error_string`, and the alerts of RFC 8446, section 6.
"""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple

__all__ = ["Reason", "refused_certificate", "why_no_tls"]


class Reason(NamedTuple):
    why: str
    hint: str
    ours: bool = False
    """The server did not like what we showed, or missed it: then it read nothing of the request."""
    passing: bool = False
    """Another try may succeed."""


TRUST: Final = "If you trust it: TLS(ca=…) with the file (PEM) of its authority, or with the certificate itself."
CLOCK: Final = "Check the clock of this machine; if that is right, whoever runs the server must renew the certificate."
NAME: Final = "Use a name that the certificate is for, or have a certificate made for this one."
CHAIN: Final = (
    "TLS(ca=…) with the file (PEM) of its authority; if that is a public one, the server forgot to send the "
    "certificates between (its chain)."
)
CERTIFICATES: Final = {
    9: Reason("its certificate is not valid yet", CLOCK),
    10: Reason("its certificate has expired", CLOCK),
    18: Reason("nobody but itself vouches for its certificate (self-signed)", TRUST),
    19: Reason("the authority that vouches for its certificate is not trusted here", TRUST),
    20: Reason("the authority that vouches for its certificate is not known here", CHAIN),
    21: Reason("the authority that vouches for its certificate is not known here", CHAIN),
    23: Reason("its certificate was revoked", "Do not send anything there before you know why."),
    62: Reason("its certificate is for another name", NAME),
    64: Reason("its certificate is for another address", NAME),
}

SHOW: Final = "Show one: TLS(cert=…, key=…)."
ACCEPTED: Final = "Ask whoever runs the server which certificates it takes, and look at TLS(cert=…)."
PLAIN: Final = "Is the address right? Perhaps it is http://, or another port."
OLD: Final = "Whoever runs the server must allow TLS 1.2 or later; until then, hand in an `ssl.SSLContext` of your own."
HANDSHAKES: Final = {
    "WRONG_VERSION_NUMBER": Reason("what answers there does not speak TLS", PLAIN),
    "HTTP_REQUEST": Reason("what answers there does not speak TLS", PLAIN),
    "RECORD_LAYER_FAILURE": Reason("what answers there does not speak TLS", PLAIN),
    "PACKET_LENGTH_TOO_LONG": Reason("what answers there does not speak TLS", PLAIN),
    "UNSUPPORTED_PROTOCOL": Reason("it offers only versions of TLS that are not safe any more", OLD),
    "TLSV1_ALERT_PROTOCOL_VERSION": Reason("it speaks none of the versions of TLS that we offer", OLD),
    "TLSV1_UNRECOGNIZED_NAME": Reason("it has no certificate for this name", NAME),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": Reason("it wants a certificate of the client", SHOW, ours=True),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": Reason(
        "it broke the handshake off: no cipher in common, or it wants a certificate of the client", SHOW
    ),
    "UNEXPECTED_EOF_WHILE_READING": Reason("it ended the connection during the handshake", PLAIN, passing=True),
} | {
    alert: Reason(f"it does not accept the client's certificate ({why})", ACCEPTED, ours=True)
    for alert, why in {
        "TLSV1_ALERT_UNKNOWN_CA": "its authority is not known there",
        "TLSV1_ALERT_ACCESS_DENIED": "access denied",
        "SSLV3_ALERT_BAD_CERTIFICATE": "bad certificate",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "of an unsupported kind",
        "SSLV3_ALERT_CERTIFICATE_REVOKED": "revoked",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED": "expired",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "certificate unknown",
    }.items()
}


def refused_certificate(error: BaseException) -> Reason:
    """What is wrong with a server's certificate."""
    if not isinstance(error, ssl.SSLCertVerificationError):  # a certificate that does not even look like one
        return Reason(f"its certificate cannot be used ({error})", TRUST)
    known = CERTIFICATES.get(error.verify_code)
    return known or Reason(f"its certificate was not accepted ({error.verify_message})", TRUST)


def why_no_tls(error: BaseException) -> Reason:
    """What went wrong in the handshake, or right after it: TLS 1.3 lets a client speak before the server has
    looked at its certificate.
    """
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return HANDSHAKES.get(reason) or Reason(f"the handshake failed ({reason})", PLAIN)
