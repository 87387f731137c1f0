"""The certificate and key that connections are encrypted with."""

import os
import ssl

from gateway.config.settings import TlsSettings
from gateway.errors import ConfigError


def tls_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """A context with the certificate to serve with; None if none is set. Raises ConfigError."""
    if settings.certificate is None:
        if settings.key is not None:
            raise ConfigError("tls.key is set and tls.certificate is not")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    for name, path in (("tls.certificate", settings.certificate), ("tls.key", settings.key)):
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigError(f"{name}: {path} cannot be read")
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=_no_passphrase)
    except ssl.SSLError as error:
        raise ConfigError(
            f"tls.certificate {settings.certificate} and tls.key {settings.key or '(unset)'} "
            f"are no certificate with its key: {error.reason or error}"
        ) from error
    return context


def _no_passphrase() -> str:
    """Called for an encrypted key. Without this OpenSSL would ask on the terminal."""
    raise ConfigError("tls.key is encrypted; a key without a passphrase is needed")
