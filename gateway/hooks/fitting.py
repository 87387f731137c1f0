"""Whether hooks fit the settings."""

from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.errors import ConfigError
from gateway.hooks.hooks import Hooks


def check_fit(hooks: Hooks, settings: ServerSettings, channels: Channels) -> None:
    """Raises ConfigError for a hook that would never be asked, or would trust what any page can send."""
    for hook in hooks.hooks:
        if hook.kind == "rpc":
            continue
        for name in hook.names:
            if name and not channels.has_namespace(name):
                raise ConfigError(f"{hook.name}: there is no namespace {name!r} (namespaces.{name})")
    if hooks.reads_cookies and "*" in settings.origins.allowed:
        raise ConfigError(
            "origins.allowed has *, and the connect hook gets cookies: every page could connect as its visitor. Name "
            "the origins, or declare @hooks.connect(cookies=False)"
        )
