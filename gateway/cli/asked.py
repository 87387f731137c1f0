"""Which hooks decide what, for commands that run no node."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.channels import ChannelSpec
    from gateway.config.settings import HookKind, ServerSettings
    from gateway.hooks import Hooks


class Asked:
    """The hooks of a node with these settings. They are loaded, and not asked."""

    def __init__(self, settings: "ServerSettings") -> None:
        """Raises ConfigError."""
        from gateway.hooks.loading import load_hooks

        self.hooks: Hooks
        if settings.app:
            # Imported here: a node is more than most commands need.
            from gateway.embedding import load_application

            self.hooks = load_application(settings.app).gateway.hooks
        else:
            self.hooks = load_hooks(settings.hooks.python)
        self._http = settings.hooks.http

    def to_connect(self) -> str:
        """The hook that decides who connects; empty if there is none."""
        return self._find("connect", "")

    def on(self, operation: str, spec: "ChannelSpec") -> str:
        """The hook that decides about a channel in place of its options; empty if there is none."""
        from gateway.auth.permissions import is_protected

        kind = operation.partition(" ")[0]
        if kind == "subscribe" and not is_protected(spec):
            return self._find("subscribe", spec.namespace)
        return self._find("publish", spec.namespace) if kind == "publish" else ""

    def _find(self, kind: "HookKind", namespace: str) -> str:
        mine = [hook for hook in self.hooks.hooks if hook.kind == kind]
        named = [hook for hook in mine if namespace in hook.names]
        for hook in (*named, *(hook for hook in mine if not hook.names)):
            return f"the {hook.name}"
        over_all = kind == "connect" or not self._http.namespaces
        if kind in self._http.urls and (over_all or namespace in self._http.namespaces):
            return f"the backend (hooks.http.{kind})"
        return ""
