"""The certificate of a server that speaks TLS, read again when its files are renewed.

Who asks for certificates automatically (certbot, acme.sh, …) writes new files every few weeks. They are taken for
the connections that come then; the server goes on, and so do open connections.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final

from consona.errors import ConfigurationError

__all__ = ["Certificate"]

log = logging.getLogger("consona.rest.server")

LOOK_EVERY: Final = 50
"""uvicorn's ticks (0.1 s) between two looks at the files."""


class Certificate:
    """A certificate and its key, in PEM files.

    Args:
        chain: The file of the certificate, followed by those that lead to its authority.
        key: The file of the key; None where it is in the same file.

    Raises:
        ConfigurationError: A file cannot be read, is none of those, needs a password, or the two do not belong
            together.

    Source: RFC 8446 (TLS 1.3); TLS 1.2 is the oldest that is spoken.
    """

    def __init__(self, chain: Path, key: Path | None = None) -> None:
        self.chain = chain
        self.key = key
        self._seen = self._stamps()
        self.context = self._new_context()
        """What connections are made with."""

    def renew(self) -> bool:
        """Take the files that are there now for new connections; whether they are others than before.

        Files that cannot be used are said in the log, once, and the certificate stays as it was.
        """
        try:
            stamps = self._stamps()
        except ConfigurationError:  # between the old files and the new ones: look again later
            return False
        if stamps == self._seen:
            return False
        self._seen = stamps
        try:
            self._new_context()  # a failure would leave half of the new pair in the one that is in use
            self._load(self.context)
        except ConfigurationError as error:
            log.warning("The renewed certificate is not used: %s The one before stays.", error.message)
            return False
        log.info("The certificate in %s was renewed.", self.chain)
        return True

    def _stamps(self) -> list[tuple[int, int, int]]:
        stamps = []
        for path in [self.chain, *([] if self.key is None else [self.key])]:
            try:
                found = path.stat()
            except OSError as error:
                raise ConfigurationError(
                    f"{path} cannot be read: {error.strerror}.", hint="Name the PEM files: --tls-cert and --tls-key."
                ) from error
            stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
        return stamps

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.set_alpn_protocols(["http/1.1"])
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self.chain, self.key, password=_no_password)
        except ssl.SSLError as error:
            both = f"{self.chain} and {self.key}" if self.key is not None else f"{self.chain}"
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigurationError(
                    f"The certificate and the key in {both} do not belong together.",
                    hint="Name the key that the certificate was made for.",
                ) from error
            raise ConfigurationError(
                f"There is no certificate with its key in {both}.",
                hint="Both are in PEM: -----BEGIN CERTIFICATE----- and -----BEGIN PRIVATE KEY-----.",
            ) from error
        except OSError as error:
            raise ConfigurationError(f"{self.key or self.chain} cannot be read: {error.strerror}.") from error


def _no_password() -> str:
    # Without this, OpenSSL would ask at the terminal, and the server would hang.
    raise ConfigurationError(
        "The key is protected by a password, and nobody can type it when the server starts again.",
        hint="Take the password off (openssl pkey -in key.pem -out plain.pem), and let only the server's user read it.",
    )
