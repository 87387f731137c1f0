"""`gateway explain`"""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.config.settings import NamespaceSettings
from gateway.tokens import connection_token, subscription_token
from tests.cli.conftest import Run

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def settings(run: Run) -> None:
    Path("gateway.toml").write_text(
        f"""
        auth.hmac_secret = "{SECRET}"
        [personal]
        enabled = true
        namespace = "user"
        [channels]
        [namespaces.chat]
        allow_subscribe = ["client"]
        allow_publish = ["subscriber"]
        [namespaces.team]
        user_limited = true
        [namespaces.user]
        """
    )


def verdicts(run: Run, *args: str, **environ: str) -> dict[str, str]:
    """By operation, "allowed: rule" or "REFUSED: rule"."""
    return {operation: verdict for operation, (verdict, *_) in explained(run, *args, **environ).items()}


def ways(run: Run, operation: str, *args: str, **environ: str) -> list[str]:
    """What would allow the operation."""
    return explained(run, *args, **environ)[operation][1:]


def explained(run: Run, *args: str, **environ: str) -> dict[str, list[str]]:
    """By operation, the verdict and the ways below it."""
    result = run("explain", *args, **environ)
    assert result.exit_code == 0, result.stderr
    found: dict[str, list[str]] = {}
    operation = ""
    for line in result.stdout[result.stdout.index("\nconnect  ") : result.stdout.index("\n# ")].splitlines():
        if line.startswith(" "):
            found[operation].append(line.strip().removeprefix("- "))
        elif ": " in line[26:]:
            operation = line[:26].strip()
            found[operation] = [line[26:]]
    return found


def test_the_channel_and_its_options_are_shown(run: Run) -> None:
    """What the name means, and the options of its namespace."""
    output = run("explain", "$team:a#17,4").stdout
    for line in [
        "channel       $team:a#17,4",
        "namespace     team",
        "private       yes, it starts with $",
        "user-limited  to 17, 4",
        "[namespaces.team]",
        "user_limited = true  # gateway.toml",
        "user          (anonymous), without a token",
    ]:
        assert line in output.splitlines()
    assert "user-limited  no" in run("explain", "news").stdout
    assert "[channels]\n" in run("explain", "news").stdout
    assert "user-limited  to nobody" in run("explain", "a#").stdout


def test_the_verdicts_come_before_the_options(run: Run) -> None:
    """Who asks why reads the answer first; the options are long."""
    lines = run("explain", "chat:a").stdout.splitlines()
    verdicts = [index for index, line in enumerate(lines) if "REFUSED: " in line or "allowed: " in line]
    assert len(verdicts) == 8
    assert verdicts[-1] < lines.index("[namespaces.chat]")
    assert lines[-1].startswith("allow_publish = ")


def options(run: Run, *args: str, **environ: str) -> dict[str, Any]:
    """The TOML that comes last, as a parser reads it."""
    output = run("explain", *args, **environ).stdout
    parsed = tomllib.loads(output[output.index("\n# ") :])
    found: dict[str, Any] = parsed["channels"] if "channels" in parsed else next(iter(parsed["namespaces"].values()))
    return found


def test_options_are_toml_and_only_those_that_differ(run: Run) -> None:
    """With the value that is in force, also where that depends on another option or on a flag; --all prints all."""
    assert options(run, "chat:a") == {"allow_subscribe": ["client"], "allow_publish": ["subscriber"]}
    assert options(run, "news") == {}
    everything = options(run, "chat:a", "--all")
    assert set(everything) == set(NamespaceSettings.model_fields)
    assert (everything["delivery"], everything["history_size"], everything["presence"]) == ("live", 0, False)
    kept = {"GATEWAY_CHANNELS__DELIVERY": "recoverable"}
    assert options(run, "news", **kept) == {"delivery": "recoverable", "history_size": 1000}
    output = run("explain", "news", "--no-auth", **kept).stdout
    assert 'delivery = "recoverable"  # GATEWAY_CHANNELS__DELIVERY\n' in output
    assert 'allow_subscribe = ["client", "anonymous"]  # no_auth\n' in output
    assert 'join_leave = "clients"  # demo\n' in run("explain", "demo:a", "--demo").stdout


@pytest.mark.parametrize(
    ("args", "environ", "sources"),
    [
        ((), {}, "./gateway.toml"),
        (("--demo",), {"GATEWAY_WORKERS": "1"}, "./gateway.toml, variables GATEWAY_*, --demo"),
        (("--config", "{folder}/gateway.toml"), {}, "{folder}/gateway.toml"),
    ],
)
def test_the_first_line_says_by_what_is_judged(
    run: Run, tmp_path: Path, args: tuple[str, ...], environ: dict[str, str], sources: str
) -> None:
    """No node is asked: other settings than its own would mislead. (Without a file: see test_hints.py.)"""
    folder = str(tmp_path)
    output = run("explain", "news", *(each.format(folder=folder) for each in args), **environ).stdout
    assert output.startswith(f"judged by     {sources.format(folder=folder)}\n")
    # Also before a channel that cannot be.
    assert run("explain", "nope:a").stdout == "judged by     ./gateway.toml\n"


def test_each_operation_has_its_rule(run: Run) -> None:
    """The same words as in the log line of the refusal."""
    none = {
        f"{what}{when}": f"REFUSED: the channel has no {what}"
        for what in ("history", "presence")
        for when in ("", " when subscribed")
    }
    assert verdicts(run, "chat:a") == {
        **none,
        "connect": "REFUSED: clients need a token",
        "subscribe": "REFUSED: anonymous clients may not subscribe",
        "publish": "REFUSED: anonymous clients may not publish",
        "publish when subscribed": "allowed: subscribers may publish",
    }
    assert verdicts(run, "chat:a", "--user", "42") == {
        **none,
        "connect": "allowed: with a connection token of this user",
        "subscribe": "allowed: clients with a user id may subscribe",
        "publish": "REFUSED: clients may not publish",
        "publish when subscribed": "allowed: subscribers may publish",
    }
    assert "is not among those listed" in verdicts(run, "team:a#17", "--user", "42")["subscribe"]
    assert verdicts(run, "team:a#42", "--user", "42")["subscribe"] == "allowed: the user is listed after #"


def test_every_way_to_subscribe_is_named(run: Run) -> None:
    """A setting, another name, tokens, and the backend; whatever the name of the channel leaves open."""
    tokens = [
        "a connection token with this channel in `channels` or `subs`",
        "the backend, with the API method `subscribe`",
    ]

    def token(user: str, channel: str) -> str:
        return f"a subscription token for this channel (gateway token --user {user} --channel {channel})"

    assert ways(run, "subscribe", "chat:a") == [
        "a connection token (gateway token --user ID)",
        "anonymous in namespaces.chat.allow_subscribe",
        token("ID", "chat:a"),
        *tokens,
    ]
    assert ways(run, "subscribe", "user:a", "--user", "4 2") == [
        "client in namespaces.user.allow_subscribe",
        token("'4 2'", "user:a"),
        *tokens,
    ]
    assert ways(run, "subscribe", "news", "--user", "42") == [
        "client in channels.allow_subscribe",
        "another channel, news#42, and channels.user_limited = true",
        token("42", "news"),
        *tokens,
    ]
    assert ways(run, "subscribe", "team:a#17", "--user", "42") == [
        "another channel, team:a#42",
        token("42", "'team:a#17'"),
        *tokens,
    ]
    assert ways(run, "subscribe", "chat:a#42", "--user", "42") == [
        "namespaces.chat.user_limited = true",
        token("42", "'chat:a#42'"),
        *tokens,
    ]
    assert ways(run, "subscribe", "$chat:a", "--user", "42") == [token("42", "'$chat:a'"), *tokens]
    assert ways(run, "subscribe", "chat:a", "--user", "42") == []


def test_every_way_to_connect_publish_and_read_is_named(run: Run) -> None:
    """By the token, by being subscribed, by an option, and over the API."""
    assert ways(run, "connect", "chat:a") == [
        "a connection token (gateway token --user ID)",
        "at /ws/CHANNEL and /sse/CHANNEL also a subscription token for this channel "
        "(gateway token --user ID --channel chat:a)",
        "auth.anonymous = true",
    ]
    assert ways(run, "publish", "chat:a", "--user", "42") == [
        "client in namespaces.chat.allow_publish",
        "a subscription to the channel",
        "the backend, with the API method `publish`",
    ]
    assert ways(run, "publish when subscribed", "team:a", "--user", "42") == [
        "client or subscriber in namespaces.team.allow_publish",
        "the backend, with the API method `publish`",
    ]
    assert ways(run, "publish", "$chat:a") == [
        "a subscription to the channel",
        "the backend, with the API method `publish`",
    ]
    assert ways(run, "history", "chat:a") == [
        "namespaces.chat.delivery = 'recoverable'",
        "namespaces.chat.history_size",
    ]
    none = {"GATEWAY_NAMESPACES__chat__DELIVERY": "recoverable", "GATEWAY_NAMESPACES__chat__HISTORY_SIZE": "0"}
    assert ways(run, "history", "chat:a", **none) == ["namespaces.chat.history_size"]
    assert ways(run, "presence", "chat:a") == ["namespaces.chat.presence = true"]
    present = {"GATEWAY_NAMESPACES__chat__PRESENCE": "true"}
    assert ways(run, "presence when subscribed", "chat:a", "--user", "42", **present) == [
        "client or subscriber in namespaces.chat.allow_presence",
        "the backend, with the API methods `presence` and `presence_stats`",
    ]


def test_a_channel_with_latest_values_needs_no_history(run: Run) -> None:
    """To change its delivery would take its values away, so that is not advised."""
    latest = {"GATEWAY_NAMESPACES__chat__DELIVERY": "latest"}
    for operation in ("history", "history when subscribed"):
        verdict, *found = explained(run, "chat:a", "--user", "42", **latest)[operation]
        assert verdict.startswith("REFUSED: with delivery = 'latest' subscribers get the newest values")
        assert found == []


@pytest.mark.parametrize(
    ("operation", "channel", "user"),
    [
        ("subscribe", "chat:a", "ID"),
        ("subscribe", "user:#42", "42"),
        ("subscribe", "team:a#42,17", "17"),
        ("history", "chat:a", "ID"),
        ("history when subscribed", "chat:a", "ID"),
        ("publish", "chat:a", None),
        ("publish when subscribed", "team:a", None),
        ("subscribe", "$chat:a", None),
        ("subscribe", "team:a#", None),
    ],
)
def test_an_anonymous_client_is_first_told_to_send_a_token(
    run: Run, operation: str, channel: str, user: str | None
) -> None:
    """Where a user id is all that it lacks, with the command that makes the token; and nowhere else."""
    kept = {"GATEWAY_NAMESPACES__chat__DELIVERY": "recoverable", "GATEWAY_NAMESPACES__chat__ALLOW_HISTORY": "client"}
    told = ways(run, operation, channel, **kept)
    token = f"a connection token (gateway token --user {user})"
    if user is not None:
        assert told[0] == token
        assert explained(run, channel, "--user", "42" if user == "ID" else user, **kept)[operation][0][:7] == "allowed"
    else:
        assert not any(each.startswith("a connection token (") for each in told)


def test_personal_channels_may_be_switched_off(run: Run) -> None:
    """The advice names the switch for the user whose channel it would be, and for a client that has not said who."""
    off = {"GATEWAY_PERSONAL__ENABLED": "false"}
    assert ways(run, "subscribe", "user:#42", "--user", "42", **off)[0] == "personal.enabled = true"
    with_token = "personal.enabled = true, and a connection token (gateway token --user 42)"
    assert ways(run, "subscribe", "user:#42", **off)[0] == with_token
    another = "another channel, user:#43"
    assert ways(run, "subscribe", "user:#42", "--user", "43")[0] == another
    assert ways(run, "subscribe", "user:#42", "--user", "43", **off)[0] == f"{another}, and personal.enabled = true"
    for channel in ("#42", "team:#42", "user:a#42", "user:#42,43", "$user:#42"):
        assert not any("personal" in each for each in ways(run, "subscribe", channel, "--user", "42", **off)), channel
    Path("gateway.toml").write_text("")
    assert ways(run, "subscribe", "#42", "--user", "42")[0] == "personal.enabled = true"


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ("https://a.example.com", "origin        allowed: origins.allowed has https://*.example.com"),
        ("https://example.org:443", "origin        allowed: origins.allowed has https://example.org"),
        ("http://localhost:3000", "                - http://localhost:3000 in origins.allowed"),
        ("https://evil.com/x", "                - none: browsers send SCHEME://HOST[:PORT] of the page"),
        ("null", "origin        REFUSED: origin null is not in origins.allowed"),
        ("a\x1b[31m", r"origin        REFUSED: origin a\x1b[31m is not in origins.allowed"),
    ],
)
def test_a_page_of_an_origin_is_let_in_or_not(run: Run, origin: str, line: str) -> None:
    """And by which entry, or which one would let it in."""
    allowed = {"GATEWAY_ORIGINS__ALLOWED": "https://*.example.com,https://example.org"}
    said = run("explain", "news", "--origin", origin, **allowed).stdout
    assert any(each.startswith(line) for each in said.splitlines()), said
    if origin != "null":
        assert (
            "origin        allowed: origins.allowed has *\n"
            in run("explain", "news", "--origin", origin, GATEWAY_ORIGINS__ALLOWED="*").stdout
        )


def test_who_may_read_what_is_kept(run: Run) -> None:
    """History and presence, by the same words as everything else."""
    kept = {
        "GATEWAY_NAMESPACES__chat__DELIVERY": "recoverable",
        "GATEWAY_NAMESPACES__chat__PRESENCE": "true",
        "GATEWAY_NAMESPACES__chat__ALLOW_PRESENCE": "client",
    }
    assert "history_size = 1000\n" in run("explain", "chat:a", **kept).stdout
    told = verdicts(run, "chat:a", "--user", "42", **kept)
    assert told["history"] == "REFUSED: clients may not read the history"
    assert told["history when subscribed"] == "allowed: subscribers may read the history"
    assert told["presence"] == "allowed: clients with a user id may read the presence"
    told = verdicts(run, "$chat:a", "--user", "42", **kept)
    assert told["presence"].startswith("REFUSED: only subscribers read the presence of channels with $ or #")
    assert told["history"].startswith("REFUSED: only subscribers read the history of channels with $ or #")


def test_a_connection_token_tells_who_the_client_is(run: Run) -> None:
    """And which channels it subscribes the connection to."""
    token = connection_token(SECRET, "42", channels=["$chat:a"])
    result = run("explain", "chat:a", "--token", token)
    assert "user          42, by the connection token" in result.stdout
    found = verdicts(run, "$chat:a", "--token", token)
    assert found["connect"].startswith("allowed: the token is valid")
    assert found["subscribe"] == "allowed: the token subscribes the connection"
    assert "need a subscription token" in verdicts(run, "$chat:b", "--token", token)["subscribe"]
    other = run("explain", "chat:a", "--token", token, "--user", "43").stdout
    assert "token         is of user '42', not of '43'" in other


def test_a_subscription_token_lets_its_user_into_its_channel(run: Run) -> None:
    """And nobody else, nor anywhere else; that is said too."""
    token = subscription_token(SECRET, "42", "$chat:a", client="c1")
    found = verdicts(run, "$chat:a", "--token", token)
    assert found["connect"] == "allowed: with a connection token of this user"
    assert found["subscribe"] == "allowed: the subscription token lets the user in, for the connection c1 only"
    for args, problem in [
        (("$chat:b",), "is for channel '$chat:a', not for '$chat:b'"),
        (("$chat:a", "--user", "43"), "is of user '42', not of '43'"),
    ]:
        assert f"token         {problem}" in run("explain", *args, "--token", token).stdout
        assert verdicts(run, *args, "--token", token)["subscribe"].startswith("REFUSED")


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("x", "not a signed token"),
        (connection_token("another secret of 32 bytes or more", "42"), "invalid token"),
        (connection_token(SECRET, "42", expires_in=60, now=1_000_000), "token expired"),
        (connection_token(SECRET, "42\n\x1b[31m", audience="x"), "invalid token"),
    ],
)
def test_what_is_wrong_with_a_token_is_said(run: Run, token: str, problem: str) -> None:
    """And the client is then nobody."""
    result = run("explain", "chat:a", "--token", token)
    assert "user          (anonymous), since the token is not valid" in result.stdout
    assert problem in result.stdout
    assert verdicts(run, "chat:a", "--token", token)["connect"].startswith("REFUSED: ")
    assert ways(run, "connect", "chat:a", "--token", token) == ["a valid token"]


def test_the_personal_channel_needs_nothing(run: Run) -> None:
    """The server subscribes its user."""
    assert "the server subscribes" in verdicts(run, "user:#42", "--user", "42")["subscribe"]
    assert verdicts(run, "user:#42", "--user", "43")["subscribe"].startswith("REFUSED")


def test_who_may_connect(run: Run) -> None:
    """By token, as anonymous, or everybody."""

    def connect(*args: str, **environ: str) -> str:
        return verdicts(run, "chat:a", *args, **environ)["connect"]

    anonymous = "allowed: clients without a token may connect"
    assert connect(GATEWAY_AUTH__ANONYMOUS="true") == f"{anonymous} (auth.anonymous)"
    assert connect("--no-auth") == f"{anonymous} (no_auth)"
    assert connect("--demo") == f"{anonymous} (demo)"
    Path("gateway.toml").write_text("[namespaces.chat]")
    assert connect("--user", "42") == "REFUSED: there is no key to check tokens with"
    assert ways(run, "connect", "chat:a", "--user", "42") == ["auth.hmac_secret, auth.public_key or auth.jwks_*"]


def test_a_channel_that_cannot_be_is_an_error(run: Run) -> None:
    """With the setting that would bring it into being."""
    result = run("explain", "nope:a")
    assert result.exit_code == 1
    assert result.stderr.endswith("namespace 'nope' is not configured (namespaces.nope)\n")
    for channel, meant in [("chta:a", "chat:a"), ("$Chat:a:b", "$chat:a:b"), ("users:#42", "user:#42")]:
        assert run("explain", channel).stderr.endswith(f"; did you mean {meant}?\n")
    assert "mean demo:a?" in run("explain", "demos:a", "--demo").stderr
    result = run("explain", "a b\x1b")
    assert result.exit_code == 1
    assert result.stderr.startswith(r"Error: channel 'a b\x1b': bad request")


def test_the_hooks_may_be_named_as_for_serve(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By --hooks, or by --app with the settings of the application."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("gateway.embedding._made", [])
    (tmp_path / "explained.py").write_text(
        """
from gateway import Gateway, Hooks

hooks = Hooks()

@hooks.subscribe()
async def may(request): ...

app = Gateway({"namespaces": {"den": {}}}, hooks=hooks)
"""
    )
    asked = "subscribe                 asked: the subscribe hook explained.may decides"
    assert asked in run("explain", "lobby", "--hooks", "explained:hooks").stdout
    assert asked in run("explain", "den:1", "--app", "explained:app").stdout


def test_what_a_hook_decides_is_not_foretold(run: Run) -> None:
    """Neither from the options of the channel nor from the token; what comes before hooks still is."""
    Path("rules_of_explain.py").write_text(
        """
from gateway.hooks import Hooks

hooks = Hooks()

@hooks.connect
async def log_in(request): ...

@hooks.subscribe("chat")
@hooks.publish()
async def may(request): ...
"""
    )
    with Path("gateway.toml").open("a") as file:
        file.write('\n[hooks]\npython = "rules_of_explain:hooks"\n[hooks.http]\n')
        file.write('subscribe = "http://127.0.0.1:1/subscribe"\nnamespaces = ["team"]\n')
    chat = run("explain", "chat:lobby", "--user", "ann").stdout
    assert "connect                   asked: the connect hook rules_of_explain.log_in decides" in chat
    assert "subscribe                 asked: the subscribe hook rules_of_explain.may decides" in chat
    assert "publish                   asked: the publish hook rules_of_explain.may decides" in chat
    team = run("explain", "team:lobby", "--user", "ann").stdout
    assert "subscribe                 asked: the backend (hooks.http.subscribe) decides" in team
    for name in ("$chat:lobby", "chat:lobby#bob"):
        protected = run("explain", name, "--user", "ann").stdout
        assert "subscribe                 REFUSED" in protected
        assert "publish                   REFUSED" in protected
    assert "subscribe                 REFUSED" in run("explain", "lobby", "--user", "ann").stdout
    invalid = run("explain", "chat:lobby", "--token", "none").stdout
    assert "connect                   REFUSED" in invalid
