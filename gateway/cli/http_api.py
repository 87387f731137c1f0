"""The HTTP API of a running gateway, called by commands."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.cli import hints
from gateway.cli.options import Sources, with_settings
from gateway.cli.target import target_of_api, url_option
from gateway.config.target import BAD_PROXY, Target, target_of
from gateway.errors import GatewayError
from gateway.log import escape

if TYPE_CHECKING:
    import httpx

R = TypeVar("R")

TIMEOUT = 10.0  # seconds


key_option = click.option(
    "--api-key",
    envvar="GATEWAY_API_KEY",
    show_envvar=True,
    metavar="KEY",
    help="Key of the HTTP API. Other users of this machine can see command lines, but not variables. [default: the "
    "first of api.keys in the settings]",
)


def with_api(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command `--config`, `--url` and `--api-key`; it gets one argument, `api`."""

    @functools.wraps(command)
    def wrapped(*args: Any, sources: Sources, url: str | None, api_key: str | None, **kwargs: Any) -> R:
        return command(*args, api=api_of(sources, url, api_key), **kwargs)

    return with_settings()(url_option(key_option(wrapped)))


def api_of(sources: Sources, url: str | None, api_key: str | None) -> "Api":
    """The API that the options name; what they leave out is in the settings. Raises ConfigError."""
    if url is not None and api_key is not None:
        return Api(target_of(url), api_key)
    settings = sources.load()
    target = target_of(url) if url is not None else target_of_api(settings)
    keys = [key.get_secret_value() for key in settings.api.keys]
    return Api(target, api_key if api_key is not None else next(iter(keys), ""))


class Api:
    """POST /api/METHOD with a JSON body, one request at a time."""

    def __init__(self, target: Target, key: str) -> None:
        self.target = target
        self.key = key

    def call(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The result of a method. Raises GatewayError with a text for the user."""
        import httpx

        headers = {b"X-Centrifugo-Error-Mode": b"transport"}
        if self.key:
            headers[b"X-API-Key"] = self.key.encode()
        try:
            with self._client() as client:
                response = client.post(self.target.http(f"/api/{method}"), json=body, headers=headers)
        except httpx.ConnectError as error:
            hint = hints.of_failure(self.target, error)
            raise GatewayError(f"cannot reach {self.target.name}: {escape(str(error))}\n{hint}") from error
        except httpx.NetworkError as error:
            hint = hints.of_failure(self.target, error)
            raise GatewayError(f"{self.target.name}: {escape(str(error))}\n{hint}") from error
        except httpx.RemoteProtocolError as error:
            hint = hints.of_silence(self.target)
            raise GatewayError(f"{self.target.name}: {escape(str(error))}\n{hint}") from error
        except httpx.TimeoutException as error:
            raise GatewayError(
                f"{self.target.name} did not answer within {TIMEOUT:g} s; the request may have been carried out or not"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise GatewayError(f"{self.target.name}: {escape(str(error))}") from error
        return self._result(response)

    def _client(self) -> "httpx.Client":
        """Raises GatewayError."""
        import ssl

        import httpx

        try:
            return httpx.Client(
                transport=httpx.HTTPTransport(uds=self.target.socket) if self.target.socket else None,
                # OpenSSL's own default heeds SSL_CERT_FILE; httpx does so only where it also heeds proxies.
                verify=ssl.create_default_context(),
                trust_env=not self.target.is_loopback,
                timeout=TIMEOUT,
            )
        except (httpx.InvalidURL, ValueError, ImportError):
            raise GatewayError(BAD_PROXY) from None

    def _result(self, response: "httpx.Response") -> dict[str, Any]:
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body = None
        if response.status_code == 401:
            wanted = "refused the API key" if self.key else "requires an API key"
            raise GatewayError(f"{self.target.name} {wanted}: give --api-key, or set api.keys in the settings")
        # Refusals before the method is looked at are in `error`; errors of the method are the body.
        error = body.get("error", body if "code" in body else None) if isinstance(body, dict) else None
        if isinstance(error, dict):
            raise GatewayError(f"refused: {error.get('code')} {escape(str(error.get('message')))}")
        if response.is_success and isinstance(body, dict) and isinstance(result := body.get("result"), dict):
            return result
        raise GatewayError(
            f"{self.target.name} answered {response.status_code} to /api: it is not a gateway, or api.public is off"
        )
