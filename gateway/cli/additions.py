"""What `gateway cluster` adds to settings that do not say it, so that a cluster without any can be used at once."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.config.settings import ServerSettings


class Additions(NamedTuple):
    """Made once for a run: settings that are read again are completed in the same way."""

    # Empty when none was needed.
    hmac_secret: str = ""
    api_key: str = ""
    origins: tuple[str, ...] = ()

    def complete(self, settings: "ServerSettings") -> "ServerSettings":
        """With the keys that are missing, and the origins besides those that are there."""
        from pydantic import SecretStr

        auth, api, origins = settings.auth, settings.api, settings.origins
        if self.hmac_secret and needs_secret(settings):
            auth = auth.model_copy(update={"hmac_secret": SecretStr(self.hmac_secret)})
        if self.api_key and needs_api_key(settings):
            api = api.model_copy(update={"keys": (SecretStr(self.api_key),)})
        if self.origins:
            origins = origins.model_copy(update={"allowed": (*origins.allowed, *self.origins)})
        return settings.model_copy(update={"auth": auth, "api": api, "origins": origins})


def needs_secret(settings: "ServerSettings") -> bool:
    """Whether there is no key to check tokens with, and one is wanted."""
    return not settings.no_auth and not settings.auth.has_key


def needs_api_key(settings: "ServerSettings") -> bool:
    """Whether nobody could call the API."""
    return not settings.no_auth and not (settings.api.keys or settings.api.insecure)
