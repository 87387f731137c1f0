"""Hooks that the settings name."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.channels import Channels
from gateway.errors import ConfigError
from gateway.hooks import Hooks
from gateway.hooks.fitting import check_fit
from gateway.hooks.loading import load_hooks
from tests.api.site import settings_of

MODULES = {
    "fine": "from gateway.hooks import Hooks\nclass App:\n    hooks = Hooks()\nhooks = App.hooks\n",
    "crashes": "raise ZeroDivisionError('at import')\n",
    "needs": "import does_not_exist\n",
    "broken": "def (:\n",
    "other": "hooks = 7\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is started. The names are its own: modules stay imported."""
    for name, text in MODULES.items():
        (tmp_path / f"hooked_{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_they_are_found_from_the_folder_of_the_command(folder: Path) -> None:
    hooks = load_hooks("hooked_fine:hooks")
    assert isinstance(hooks, Hooks)
    assert load_hooks("hooked_fine:App.hooks") is hooks
    assert load_hooks("").hooks == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hooked_nowhere:hooks", "there is no module 'hooked_nowhere' in"),
        ("hooked_needs:hooks", "hooked_needs cannot be imported: No module named 'does_not_exist'"),
        ("hooked_crashes:hooks", "hooked_crashes cannot be imported: ZeroDivisionError: at import"),
        ("hooked_broken:hooks", "hooked_broken cannot be imported: SyntaxError"),
        ("hooked_fine:hook", "hooked_fine has no 'hook'"),
        ("hooked_other:hooks", "hooked_other:hooks is a int, expected"),
    ],
)
def test_what_cannot_be_loaded_is_named(folder: Path, name: str, text: str) -> None:
    with pytest.raises(ConfigError, match="hooks") as error:
        load_hooks(name)
    assert text in str(error.value)


async def hook(request: Any) -> Any:
    return True


def fit(declared: Hooks, **settings: Any) -> None:
    made = settings_of(**settings)
    check_fit(declared, made, Channels(made))


def test_a_hook_for_no_namespace_is_refused() -> None:
    """It would never be asked. Methods have any name, and channels without a namespace the empty one."""
    hooks = Hooks()
    hooks.subscribe("chat", "")(hook)
    hooks.rpc("anything")(hook)
    fit(hooks)
    hooks.publish("chta")(hook)
    with pytest.raises(ConfigError, match="there is no namespace 'chta'"):
        fit(hooks)


def over_http(*kinds: str, **settings: Any) -> dict[str, Any]:
    return {"http": {**dict.fromkeys(kinds, "http://backend/hooks"), **settings}}


def test_the_same_question_has_one_hook() -> None:
    """In Python or over HTTP. Both may answer different questions of a kind."""
    hooks = Hooks()
    hooks.connect(cookies=False)(hook)
    hooks.subscribe("chat")(hook)
    hooks.rpc("sum")(hook)
    fit(hooks, hooks=over_http("refresh", "subscribe", "publish", "rpc"))
    fit(hooks, hooks=over_http("subscribe", "publish", namespaces=["closed", ""]))
    for kinds, settings, text in (
        (["connect"], {}, "hooks.http.connect: hooks.python has a connect hook as well"),
        (["subscribe"], {"namespaces": ["chat"]}, "has a subscribe hook for 'chat' as well"),
    ):
        with pytest.raises(ConfigError, match=text):
            fit(hooks, hooks=over_http(*kinds, **settings))
    hooks.rpc()(hook)
    with pytest.raises(ConfigError, match="has a rpc hook as well"):
        fit(hooks, hooks=over_http("rpc"))


def test_namespaces_over_http_exist() -> None:
    with pytest.raises(ConfigError, match=r"hooks\.http\.namespaces: there is no namespace 'chta'"):
        fit(Hooks(), hooks=over_http("publish", namespaces=["chat", "", "chta"]))


def test_forwarded_cookies_need_a_list_of_origins() -> None:
    for kind in ("connect", "publish"):
        with pytest.raises(ConfigError, match="forward no cookies"):
            fit(Hooks(), hooks=over_http(kind, headers=["Cookie"]), origins={"allowed": ["*"]})
    fit(Hooks(), hooks=over_http("connect", headers=["Cookie"]))
    fit(Hooks(), hooks=over_http("connect", headers=["X-A"]), origins={"allowed": ["*"]})


@pytest.mark.parametrize(
    "settings",
    [
        {"connect": ""},
        {"connect": "file:///etc/passwd"},
        {"connect": "http://{channel}.example"},
        {"connect": "http://a b/"},
        {"connect": "http://"},
        {"headers": ["Host"]},
        {"headers": ["content-length"]},
        {"headers": ["X-Gateway-Signature"]},
        {"headers": ["a b"]},
        {"headers": ["a\r\nb"]},
        {"timeout": 0},
        {"timeout": 31},
        {"concurrency": 0},
        {"when_unavailable": "shrug"},
        {"secret": ""},
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings_of(hooks={"http": settings})


def test_cookies_need_a_list_of_origins() -> None:
    """Otherwise any page could connect as its visitor."""
    hooks = Hooks()
    hooks.connect(hook)
    fit(hooks, origins={"allowed": ["https://app.example"]})
    with pytest.raises(ConfigError, match="cookies=False"):
        fit(hooks, origins={"allowed": ["*"]})
    without = Hooks()
    without.connect(cookies=False)(hook)
    fit(without, origins={"allowed": ["*"]})
