"""`gateway explain`"""

from pathlib import Path

import pytest

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
    """By operation, "allowed" or "REFUSED: rule; would be allowed by setting"."""
    result = run("explain", *args, **environ)
    assert result.exit_code == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if ": " in line and "=" not in line]
    return {line[:26].strip(): line[26:] for line in lines}


def test_the_channel_and_its_options_are_shown(run: Run) -> None:
    """What the name means, and every option of its namespace."""
    output = run("explain", "--channel", "$team:a#17,4").stdout
    for line in [
        "channel       $team:a#17,4",
        "namespace     team",
        "private       yes, it starts with $",
        "user-limited  to 17, 4",
        "[namespaces.team]",
        "delivery = live",
        "allow_subscribe = (nobody)",
        "history_size = 0",
        "presence = False",
        "user_limited = True",
        "user          (anonymous), without a token",
    ]:
        assert line in output.splitlines()
    assert "user-limited  no" in run("explain", "--channel", "news").stdout
    assert "[channels]\n" in run("explain", "--channel", "news").stdout
    assert "user-limited  to nobody" in run("explain", "--channel", "a#").stdout


def test_each_operation_has_its_rule_and_the_setting_that_would_allow_it(run: Run) -> None:
    """The same words as in the log line of the refusal."""
    by = "would be allowed by"
    none = {
        f"{what}{when}": f"REFUSED: the channel has no {what}; {by} namespaces.chat.{setting}"
        for what, setting in (("history", "history_size"), ("presence", "presence"))
        for when in ("", " when subscribed")
    }
    assert verdicts(run, "--channel", "chat:a") == {
        **none,
        "connect": f"REFUSED: clients need a token; {by} auth.anonymous",
        "subscribe": f"REFUSED: anonymous clients may not subscribe; {by} namespaces.chat.allow_subscribe",
        "publish": f"REFUSED: anonymous clients may not publish; {by} namespaces.chat.allow_publish",
        "publish when subscribed": "allowed: subscribers may publish",
    }
    assert verdicts(run, "--channel", "chat:a", "--user", "42") == {
        **none,
        "connect": "allowed: with a connection token of this user",
        "subscribe": "allowed: clients with a user id may subscribe",
        "publish": f"REFUSED: clients may not publish; {by} namespaces.chat.allow_publish",
        "publish when subscribed": "allowed: subscribers may publish",
    }
    assert "is not among those listed" in verdicts(run, "--channel", "team:a#17", "--user", "42")["subscribe"]
    assert verdicts(run, "--channel", "team:a#42", "--user", "42")["subscribe"] == "allowed: the user is listed after #"


def test_who_may_read_what_is_kept(run: Run) -> None:
    """History and presence, by the same words as everything else."""
    kept = {
        "GATEWAY_NAMESPACES__chat__DELIVERY": "recoverable",
        "GATEWAY_NAMESPACES__chat__PRESENCE": "true",
        "GATEWAY_NAMESPACES__chat__ALLOW_PRESENCE": "client",
    }
    assert "history_size = 1000\n" in run("explain", "--channel", "chat:a", **kept).stdout
    told = verdicts(run, "--channel", "chat:a", "--user", "42", **kept)
    by = "would be allowed by"
    assert told["history"] == f"REFUSED: clients may not read the history; {by} namespaces.chat.allow_history"
    assert told["history when subscribed"] == "allowed: subscribers may read the history"
    assert told["presence"] == "allowed: clients with a user id may read the presence"
    told = verdicts(run, "--channel", "$chat:a", "--user", "42", **kept)
    assert told["presence"].startswith("REFUSED: only subscribers read the presence of channels with $ or #")
    assert told["history"].startswith("REFUSED: only subscribers read the history of channels with $ or #")


def test_a_connection_token_tells_who_the_client_is(run: Run) -> None:
    """And which channels it subscribes the connection to."""
    token = connection_token(SECRET, "42", channels=["$chat:a"])
    result = run("explain", "--channel", "chat:a", "--token", token)
    assert "user          42, by the connection token" in result.stdout
    found = verdicts(run, "--channel", "$chat:a", "--token", token)
    assert found["connect"].startswith("allowed: the token is valid")
    assert found["subscribe"] == "allowed: the token subscribes the connection"
    assert "need a subscription token" in verdicts(run, "--channel", "$chat:b", "--token", token)["subscribe"]
    other = run("explain", "--channel", "chat:a", "--token", token, "--user", "43").stdout
    assert "token         is of user '42', not of '43'" in other


def test_a_subscription_token_lets_its_user_into_its_channel(run: Run) -> None:
    """And nobody else, nor anywhere else; that is said too."""
    token = subscription_token(SECRET, "42", "$chat:a", client="c1")
    found = verdicts(run, "--channel", "$chat:a", "--token", token)
    assert found["connect"] == "allowed: with a connection token of this user"
    assert found["subscribe"] == "allowed: the subscription token lets the user in, for the connection c1 only"
    for args, problem in [
        (("--channel", "$chat:b"), "is for channel '$chat:a', not for '$chat:b'"),
        (("--channel", "$chat:a", "--user", "43"), "is of user '42', not of '43'"),
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
    result = run("explain", "--channel", "chat:a", "--token", token)
    assert "user          (anonymous), since the token is not valid" in result.stdout
    assert problem in result.stdout
    connect = verdicts(run, "--channel", "chat:a", "--token", token)["connect"]
    assert connect.startswith("REFUSED: ")
    assert connect.endswith("would be allowed by a valid token")


def test_the_personal_channel_needs_nothing(run: Run) -> None:
    """The server subscribes its user."""
    assert "the server subscribes" in verdicts(run, "--channel", "user:#42", "--user", "42")["subscribe"]
    assert verdicts(run, "--channel", "user:#42", "--user", "43")["subscribe"].startswith("REFUSED")


def test_who_may_connect(run: Run) -> None:
    """By token, as anonymous, or everybody."""

    def connect(*args: str, **environ: str) -> str:
        return verdicts(run, "--channel", "chat:a", *args, **environ)["connect"]

    anonymous = "allowed: clients without a token may connect"
    assert connect(GATEWAY_AUTH__ANONYMOUS="true") == f"{anonymous} (auth.anonymous)"
    assert connect("--no-auth") == f"{anonymous} (no_auth)"
    assert connect("--demo") == f"{anonymous} (demo)"
    Path("gateway.toml").write_text("[namespaces.chat]")
    assert connect("--user", "42").startswith(
        "REFUSED: there is no key to check tokens with; would be allowed by auth."
    )


def test_a_channel_that_cannot_be_is_an_error(run: Run) -> None:
    """With the setting that would bring it into being."""
    result = run("explain", "--channel", "nope:a")
    assert result.exit_code == 1
    assert "namespace 'nope' is not configured (namespaces.nope)" in result.stderr
    result = run("explain", "--channel", "a b\x1b")
    assert result.exit_code == 1
    assert result.stderr.startswith(r"Error: channel 'a b\x1b': bad request")
