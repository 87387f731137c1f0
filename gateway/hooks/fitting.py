"""Whether hooks fit the settings."""

from collections.abc import Iterator

from gateway.channels import Channels
from gateway.config.settings import CHANNEL_HOOKS, HookKind, ServerSettings
from gateway.errors import ConfigError
from gateway.hooks.hooks import Hooks


def check_fit(hooks: Hooks, settings: ServerSettings, channels: Channels) -> None:
    """Raises ConfigError for hooks that would never be asked, or would trust what any page can send."""
    _check_namespaces(hooks, settings, channels)
    for kind, name in _questions(hooks):
        if kind in settings.hooks.http.urls and name in _names_over_http(settings, kind):
            what = "" if name is None else f" for {name!r}"
            raise ConfigError(f"hooks.http.{kind}: hooks.python has a {kind} hook{what} as well")
    if "*" in settings.origins.allowed:
        _check_cookies(hooks, settings)


def _check_namespaces(hooks: Hooks, settings: ServerSettings, channels: Channels) -> None:
    named = [(hook.name, name) for hook in hooks.hooks if hook.kind != "rpc" for name in hook.names]
    named += [("hooks.payload", each.namespace) for each in hooks.payloads]
    named += [("hooks.http.namespaces", name) for name in settings.hooks.http.namespaces]
    for where, name in named:
        if name and not channels.has_namespace(name):
            raise ConfigError(f"{where}: there is no namespace {name!r} (namespaces.{name})")


def _check_cookies(hooks: Hooks, settings: ServerSettings) -> None:
    """For a node that pages of all origins may connect to."""
    if hooks.reads_cookies:
        raise ConfigError(
            "origins.allowed has *, and the connect hook gets cookies: every page could connect as its visitor. Name "
            "the origins, or declare @hooks.connect(cookies=False)"
        )
    if settings.hooks.http.urls and "cookie" in settings.hooks.http.headers:
        raise ConfigError(
            "origins.allowed has *, and hooks.http.headers has cookie: every page could connect as its visitor. Name "
            "the origins, or forward no cookies"
        )


def _questions(hooks: Hooks) -> Iterator[tuple[HookKind, str | None]]:
    """What hooks in Python are asked: the kind, and the namespace or method, None for all others."""
    for hook in hooks.hooks:
        for name in hook.names or (None,):
            yield hook.kind, name


def _names_over_http(settings: ServerSettings, kind: HookKind) -> tuple[str | None, ...]:
    names = settings.hooks.http.namespaces
    return names if names and kind in CHANNEL_HOOKS else (None,)
