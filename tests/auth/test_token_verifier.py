"""Tokens of clients: what they claim, and every way in which they can be wrong."""

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.auth.identity import Grant, Identity, ServerSub, is_meant
from gateway.auth.revocations import Revocations, ahead
from gateway.auth.token_verifier import TokenVerifier, is_subscription_token
from gateway.config.settings import AuthSettings
from gateway.control import Revocation, RevokeTokens
from gateway.errors import (
    INTERNAL,
    INVALID_TOKEN,
    PERMISSION_DENIED,
    TOKEN_EXPIRED,
    TOKEN_TOO_EARLY,
    Disconnect,
    RequestError,
)
from gateway.messages import DEFAULT_APP
from tests.auth.key_server import KeyServer, answer
from tests.auth.signing import SECRET, as_json, base64url, jwk, key_set, private_key, public_pem, sign

NOW = 1_700_000_000

Outcome = Identity | Grant | RequestError | Disconnect


class Desk:
    """A verifier whose time stands still, with the outcomes it has given."""

    def __init__(self, **auth: Any) -> None:
        self.now = float(NOW)
        self.revocations = Revocations(lambda: self.now)
        self.verifier = TokenVerifier(
            AuthSettings.model_validate({"hmac_secret": SECRET, "leeway": 0, **auth}),
            self.revocations,
            lambda: self.now,
        )
        self.outcomes: list[Outcome] = []

    def connection(self, token: str) -> Outcome:
        """The outcome, which comes before the method returns."""
        self.verifier.connection(token, self.outcomes.append)
        return self.last()

    def subscription(self, token: str) -> Outcome:
        self.verifier.subscription(token, self.outcomes.append)
        return self.last()

    def either(self, token: str) -> Outcome:
        self.verifier.either(token, self.outcomes.append)
        return self.last()

    def last(self) -> Outcome:
        (outcome,) = self.outcomes
        self.outcomes.clear()
        return outcome


@pytest.fixture
def desk() -> Desk:
    return Desk()


def is_invalid(outcome: Outcome, detail: str = "") -> bool:
    return isinstance(outcome, Disconnect) and outcome.code == INVALID_TOKEN and detail in outcome.detail


def is_error(outcome: Outcome, error: object) -> bool:
    return isinstance(outcome, RequestError) and outcome.error == error


# What tokens say


def test_who_connects(desk: Desk) -> None:
    """Every claim of a connection token has its place."""
    claims = {
        "sub": "42",
        "jti": "t1",
        "iat": NOW - 5,
        "nbf": NOW,
        "exp": NOW + 60,
        "info": {"name": "Ada"},
        "channels": ["news", "chat:room"],
        "subs": {"chat:room": {"info": {"role": 1}, "data": [1]}, "$x": {}},
        "meta": {"ignored": True},
    }
    assert desk.connection(sign(claims)) == Identity(
        DEFAULT_APP,
        "42",
        jti="t1",
        issued_at=NOW - 5,
        expire_at=NOW + 60,
        info=b'{"name": "Ada"}',
        subs={"news": ServerSub(), "chat:room": ServerSub(b'{"role": 1}', b"[1]"), "$x": ServerSub()},
    )


def test_what_is_granted(desk: Desk) -> None:
    """Every claim of a subscription token has its place."""
    claims = {"sub": "42", "channel": "$chat", "client": "c1", "info": "x", "exp": NOW + 9, "jti": "t", "iat": NOW}
    expected = Grant(DEFAULT_APP, "42", "$chat", "c1", b'"x"', NOW + 9, "t", NOW)
    assert desk.subscription(sign(claims)) == expected
    assert desk.either(sign(claims)) == expected


def test_a_token_that_says_little(desk: Desk) -> None:
    """Without a user it is anonymous, without exp it is good for ever."""
    assert desk.connection(sign({})) == desk.either(sign({})) == Identity(DEFAULT_APP, "")
    assert desk.subscription(sign({"channel": "c"})) == Grant(DEFAULT_APP, "", "c")


def test_the_app_is_the_verifiers() -> None:
    """A token cannot choose its tenant."""
    verifier = TokenVerifier(AuthSettings(hmac_secret=SecretStr(SECRET)), Revocations(), lambda: NOW, app="other")
    outcomes: list[Outcome] = []
    verifier.connection(sign({"sub": "42", "app": "default"}), outcomes.append)
    verifier.subscription(sign({"sub": "42", "channel": "c", "app": "default"}), outcomes.append)
    assert outcomes == [Identity("other", "42"), Grant("other", "42", "c")]


def test_a_token_for_one_thing_is_not_good_for_the_other(desk: Desk) -> None:
    """A connection token has no channel, whatever its value, and a subscription token has one."""
    for channel in ("room", ""):
        assert is_invalid(desk.connection(sign({"sub": "42", "channel": channel})), "subscription token")
    assert is_error(desk.subscription(sign({"sub": "42"})), PERMISSION_DENIED)
    assert is_error(desk.subscription(sign({"sub": "42", "channel": ""})), PERMISSION_DENIED)
    assert is_invalid(desk.either(sign({"sub": "42", "channel": ""})), "no channel")
    assert is_invalid(desk.connection(sign({"channel": "room", "exp": NOW - 1})))


@pytest.mark.parametrize(
    ("claims", "info"),
    [
        ({}, b""),
        ({"info": None}, b""),
        ({"info": 0}, b"0"),
        ({"info": ""}, b'""'),
        ({"b64info": b64encode(b'{"a":1}').decode()}, b'{"a":1}'),
        ({"info": 1, "b64info": b64encode(b"2").decode()}, b"2"),
        ({"b64info": b64encode(b"null").decode()}, b""),
        ({"b64info": b64encode(b'{\r\n"a": "\xc3\xa9"}\n').decode()}, '{  "a": "é"} '.encode()),
        (b'{"info": {"a":\n[1,\r\n2]} }', b'{"a": [1,  2]}'),
        (b'{"info": "a\\nb"}', b'"a\\nb"'),
    ],
)
def test_info_is_json_without_line_breaks(desk: Desk, claims: object, info: bytes) -> None:
    """It is spliced into messages to others, and a line break would split those."""
    outcome = desk.connection(sign(claims))
    assert isinstance(outcome, Identity)
    assert outcome.info == info


@pytest.mark.parametrize("encoded", ["!", "e30", b64encode(b"{").decode(), b64encode(b'"\xff"').decode(), "e30=\n"])
@pytest.mark.parametrize("place", ["b64info", "info of a channel", "data of a channel"])
def test_base64_that_holds_no_json(desk: Desk, encoded: str, place: str) -> None:
    """Clients of JSON protocols could not be shown it."""
    sub = {"b64info": encoded} if place == "info of a channel" else {"b64data": encoded}
    claims = {"b64info": encoded} if place == "b64info" else {"subs": {"c": sub}}
    assert is_invalid(desk.connection(sign(claims)), "not JSON")


# Times


@pytest.mark.parametrize(
    ("exp", "accepted"), [(NOW + 1, True), (NOW + 0.5, True), (NOW, False), (NOW - 1, False), (0, False)]
)
def test_expiry(desk: Desk, exp: float, accepted: bool) -> None:
    """From the second of exp on a token is expired, which is not the same as wrong: the client fetches another."""
    for ask, claims in ((desk.connection, {}), (desk.either, {}), (desk.subscription, {"channel": "c"})):
        outcome = ask(sign({"exp": exp, **claims}))
        assert accepted != is_error(outcome, TOKEN_EXPIRED)
        if accepted:
            assert isinstance(outcome, Identity | Grant)
            assert outcome.expire_at == int(exp)


def test_time_passes(desk: Desk) -> None:
    """The same token, a minute later."""
    token = sign({"exp": NOW + 60})
    assert isinstance(desk.connection(token), Identity)
    desk.now += 60
    assert is_error(desk.connection(token), TOKEN_EXPIRED)


def test_not_before(desk: Desk) -> None:
    """A token from the future is no offence: the client comes back. The log has the setting for clocks that differ."""
    assert isinstance(desk.connection(sign({"nbf": NOW})), Identity)
    for ask, claims in ((desk.connection, {}), (desk.either, {}), (desk.subscription, {"channel": "c"})):
        outcome = ask(sign({"nbf": NOW + 1, **claims}))
        assert is_error(outcome, TOKEN_TOO_EARLY)
        assert "auth.leeway" in str(outcome)


def test_clocks_may_differ_by_some_seconds() -> None:
    """By default: a backend whose clock is a second ahead issues tokens that are valid from now on."""
    desk = Desk(leeway=AuthSettings().leeway)
    for claims in ({"nbf": NOW + 5}, {"iat": NOW + 60}, {"exp": NOW - 4}):
        assert isinstance(desk.connection(sign({"sub": "42", **claims})), Identity)
    assert is_error(desk.connection(sign({"nbf": NOW + 6})), TOKEN_TOO_EARLY)


def test_leeway() -> None:
    """So many seconds of difference are forgiven, both ways."""
    desk = Desk(leeway=10)
    assert isinstance(desk.connection(sign({"nbf": NOW + 10, "exp": NOW - 9})), Identity)
    assert is_error(desk.connection(sign({"nbf": NOW + 11})), TOKEN_TOO_EARLY)
    assert is_error(desk.connection(sign({"exp": NOW - 10})), TOKEN_EXPIRED)


@pytest.mark.parametrize(
    ("claims", "expire_at"),
    [
        ({"exp": NOW + 60, "expire_at": 0}, 0),
        ({"exp": NOW + 60, "expire_at": NOW + 5}, NOW + 5),
        ({"exp": NOW + 60, "expire_at": NOW + 500}, NOW + 500),
        ({"expire_at": NOW + 500}, NOW + 500),
    ],
)
def test_expire_at_is_about_what_the_token_opens(desk: Desk, claims: dict[str, Any], expire_at: int) -> None:
    """The token itself is accepted until exp; the connection or subscription lives until expire_at, 0 for ever."""
    for outcome in (desk.connection(sign(claims)), desk.subscription(sign({"channel": "c", **claims}))):
        assert isinstance(outcome, Identity | Grant)
        assert outcome.expire_at == expire_at


@pytest.mark.parametrize(
    "claims", [{"exp": NOW, "expire_at": 0}, {"exp": NOW, "expire_at": NOW + 5}, {"expire_at": NOW}]
)
def test_neither_may_be_past(desk: Desk, claims: dict[str, Any]) -> None:
    """A long expire_at does not revive an expired token, and a past one opens nothing."""
    assert is_error(desk.connection(sign(claims)), TOKEN_EXPIRED)


# Audience and issuer


@pytest.mark.parametrize(
    ("setting", "claims", "accepted"),
    [
        (None, {}, True),
        (None, {"aud": "us"}, False),
        (None, {"aud": ""}, False),
        (None, {"aud": []}, False),
        ("us", {"aud": "us"}, True),
        ("us", {"aud": ["them", "us"]}, True),
        ("us", {}, False),
        ("us", {"aud": "us2"}, False),
        ("us", {"aud": ["them"]}, False),
        ("us", {"aud": []}, False),
        ("us", {"aud": None}, False),
        ("us", {"aud": {"us": 1}}, False),
        ("us", {"aud": ["us", 1]}, False),
    ],
)
def test_audience(setting: str | None, claims: dict[str, Any], accepted: bool) -> None:
    """Tokens meant for others are refused, also when the gateway has no name of its own."""
    desk = Desk(audience=setting)
    outcome = desk.connection(sign({"sub": "42", **claims}))
    assert isinstance(outcome, Identity) == accepted
    assert is_invalid(outcome, "aud") != accepted


@pytest.mark.parametrize(
    ("setting", "claims", "accepted"),
    [
        (None, {"iss": "anybody"}, True),
        ("idp", {"iss": "idp"}, True),
        ("idp", {}, False),
        ("idp", {"iss": "idp2"}, False),
        ("idp", {"iss": ["idp"]}, False),
        ("idp", {"iss": None}, False),
    ],
)
def test_issuer(setting: str | None, claims: dict[str, Any], accepted: bool) -> None:
    """Exactly the one that is set."""
    outcome = Desk(issuer=setting).connection(sign({"sub": "42", **claims}))
    assert isinstance(outcome, Identity) == accepted
    assert is_invalid(outcome, "iss") != accepted


# Revocation


def test_revoked_tokens(desk: Desk) -> None:
    """By user, with tokens that do not say when they were issued, and by id; both kinds of tokens."""
    desk.revocations.add(Revocation(DEFAULT_APP, user="42", issued_before=NOW))
    desk.revocations.add(Revocation(DEFAULT_APP, jti="t1"))
    for claims in ({"sub": "42", "iat": NOW - 2}, {"sub": "42"}, {"sub": "1", "jti": "t1"}):
        assert is_invalid(desk.connection(sign(claims)), "revoked")
        assert is_error(desk.subscription(sign({"channel": "c", **claims})), PERMISSION_DENIED)
        assert is_invalid(desk.either(sign({"channel": "c", **claims})), "revoked")
    assert isinstance(desk.connection(sign({"sub": "42", "iat": NOW})), Identity)


def test_revoked_by_user_is_judged_alike_for_new_connections_and_live_ones() -> None:
    """By whole seconds, since a revocation has no fraction, and without leeway: whoever revokes has added it."""
    desk = Desk(leeway=20)
    revoked = RevokeTokens(DEFAULT_APP, user="42", issued_before=NOW)
    early, late = (sign({"sub": "42", "iat": iat}) for iat in (NOW - 0.1, NOW))
    desk.now = NOW + 2.5
    identities = [desk.connection(token) for token in (early, late)]
    assert [isinstance(each, Identity) and is_meant(revoked, each) for each in identities] == [True, False]
    desk.revocations.add(Revocation(DEFAULT_APP, user="42", issued_before=NOW))
    assert isinstance(desk.connection(early), RequestError)
    assert isinstance(desk.connection(late), Identity)


def test_a_grant_of_a_kicked_user_is_to_be_replaced_by_a_fresh_one(desk: Desk) -> None:
    """109 on every way in. Other channels, other users, and connection tokens are as good as before."""
    desk.revocations.add(Revocation(DEFAULT_APP, "42", issued_before=NOW, channel="c"))
    old = {"sub": "42", "iat": NOW - 2}
    for claims in (old, {"sub": "42"}, {"sub": "42", "iat": NOW - 0.1}):
        for outcome in (
            desk.subscription(sign({"channel": "c", **claims})),
            desk.either(sign({"channel": "c", **claims})),
        ):
            assert is_error(outcome, TOKEN_EXPIRED)
            assert "kick" in str(outcome)
    for claims in ({**old, "channel": "d"}, {**old, "sub": "41", "channel": "c"}, {**old, "iat": NOW, "channel": "c"}):
        grant = desk.subscription(sign(claims))
        assert isinstance(grant, Grant)
        desk.verifier.check_revocation(grant)
    identity = desk.connection(sign({**old, "channels": ["c", "d"]}))
    assert isinstance(identity, Identity)
    assert [desk.verifier.opens(identity, name) for name in ("c", "d")] == [False, True]


def test_what_is_revoked_after_it_was_verified(desk: Desk) -> None:
    """It is refused as if it came now."""
    grant = desk.subscription(sign({"sub": "42", "iat": NOW - 60, "channel": "c"}))
    identity = desk.connection(sign({"sub": "42", "iat": NOW - 60}))
    assert isinstance(grant, Grant)
    assert isinstance(identity, Identity)
    known = desk.verifier.revocations
    desk.revocations.add(Revocation(DEFAULT_APP, "42", issued_before=NOW, channel="c"))
    with pytest.raises(RequestError) as kicked:
        desk.verifier.check_revocation(grant)
    assert kicked.value.error == TOKEN_EXPIRED
    desk.verifier.check_revocation(identity)
    assert desk.verifier.is_revoked_since(known, "42", "c")
    assert not desk.verifier.is_revoked_since(known, "42")
    desk.revocations.add(Revocation(DEFAULT_APP, "42", issued_before=NOW))
    for token in (grant, identity):
        with pytest.raises(Disconnect):
            desk.verifier.check_revocation(token)
    assert desk.verifier.is_revoked_since(known, "42")


def test_a_token_from_the_time_of_the_revocation_is_asked_to_come_back() -> None:
    """Clocks differ, so it may be of a user who has just logged in again: nobody of those stays away."""
    leeway = 5
    desk = Desk(leeway=leeway)
    before = NOW + 1 + leeway
    desk.revocations.add(Revocation(DEFAULT_APP, user="42", issued_before=before))
    assert is_invalid(desk.connection(sign({"sub": "42", "iat": NOW - leeway - 1})), "revoked")
    assert is_invalid(desk.connection(sign({"sub": "42"})), "revoked")
    for iat in (NOW - leeway, NOW, NOW + 1, before - 1):
        outcome = desk.connection(sign({"sub": "42", "iat": iat}))
        assert is_error(outcome, TOKEN_TOO_EARLY)
        assert "issued_before" in str(outcome)
    assert isinstance(desk.connection(sign({"sub": "42", "iat": before})), Identity)
    desk.revocations.add(Revocation(DEFAULT_APP, jti="t1"))
    assert is_invalid(desk.connection(sign({"sub": "1", "iat": before + 99, "jti": "t1"})), "revoked")


@pytest.mark.parametrize("leeway", [0, 0.1, 0.5, 1.5, 5])
@pytest.mark.parametrize("fraction", [0, 0.02, 0.95])
def test_whoever_logs_in_after_the_revocation_is_not_refused_for_good(leeway: float, fraction: float) -> None:
    """Whatever the clock of the signer says within the leeway, and in whichever part of a second it is."""
    desk = Desk(leeway=leeway)
    desk.now += fraction
    desk.revocations.add(Revocation(DEFAULT_APP, user="42", issued_before=int(desk.now) + ahead(leeway)))
    signed = [sign({"sub": "42", "iat": int(desk.now + apart)}) for apart in (-leeway, 0, leeway)]
    for later in (0, 0.03, 0.97):
        desk.now = NOW + fraction + later
        assert not any(is_invalid(desk.connection(token)) for token in signed)
    desk.now += 3600
    assert not any(is_invalid(desk.connection(token)) for token in signed)


def test_a_token_of_this_moment_is_not_refused_for_good() -> None:
    """Though a clock that is ahead, or one revocation after the other, took `issued_before` far into the future."""
    desk = Desk(leeway=5)
    desk.revocations.add(Revocation(DEFAULT_APP, user="42", issued_before=NOW + 1000))
    desk.revocations.add(Revocation(DEFAULT_APP, jti="t1"))
    for iat in (NOW - 5, NOW, NOW + 5):
        assert is_error(desk.connection(sign({"sub": "42", "iat": iat})), TOKEN_TOO_EARLY)
        assert is_invalid(desk.connection(sign({"sub": "42", "iat": iat, "jti": "t1"})), "revoked")
    assert is_invalid(desk.connection(sign({"sub": "42", "iat": NOW - 6})), "revoked")


@pytest.mark.parametrize(
    "claims",
    [
        {"iat": None, "jti": None, "info": None, "b64info": None, "channels": None, "subs": None},
        {"subs": {"a": None}},
        {"subs": {"a": {"info": None, "b64info": None, "data": None, "b64data": None}}},
        {"latest_interval": None},
    ],
)
def test_null_is_absent_where_that_lifts_no_limit(desk: Desk, claims: dict[str, Any]) -> None:
    """Serialisers of several languages write it for what is not set."""
    subs = {"a": ServerSub()} if claims.get("subs") else None
    assert desk.connection(sign({"sub": "42", **claims})) == Identity(DEFAULT_APP, "42", subs=subs)
    granted = desk.subscription(sign({"sub": "42", "channel": "c", **claims}))
    assert granted == Grant(DEFAULT_APP, "42", "c")


@pytest.mark.parametrize("claim", ["sub", "exp", "nbf", "expire_at", "aud", "iss", "client", "channel"])
def test_null_is_refused_where_it_would_lift_a_limit(claim: str) -> None:
    """A backend that forgets the time, or the user, must not open the door for ever, or for anybody."""
    desk = Desk(audience="us", issuer="idp")
    claims = {"sub": "42", "channel": "c", "aud": "us", "iss": "idp"}
    assert isinstance(desk.subscription(sign(claims)), Grant)
    assert is_error(desk.subscription(sign({**claims, claim: None})), PERMISSION_DENIED)


# Wrong signatures


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_all_hmac_algorithms(desk: Desk, algorithm: str) -> None:
    """Accepted with the one secret."""
    assert isinstance(desk.connection(sign({}, SECRET, algorithm)), Identity)


def test_a_wrong_signature(desk: Desk) -> None:
    """Closes a connection, refuses a subscription; the text names algorithm and key, cut to a sane length."""
    token = sign({"channel": "c"}, "another secret of thirty-two bytes", kid="k" * 500)
    for outcome in (desk.connection(token), desk.either(token)):
        assert is_invalid(outcome, "no key here signed it (alg 'HS256', kid 'kkk")
        assert len(str(outcome)) < 200
    outcome = desk.subscription(token)
    assert is_error(outcome, PERMISSION_DENIED)
    assert "no key here signed it" in str(outcome)


def test_claims_changed_after_signing(desk: Desk) -> None:
    """The signature covers header and claims."""
    header, _, signature = sign({"sub": "42"}).split(".")
    assert is_invalid(desk.connection(f"{header}.{base64url(as_json({'sub': '1'}))}.{signature}"))
    changed = base64url(as_json({"alg": "HS256", "typ": "JWT", "kid": "x"}))
    assert is_invalid(desk.connection(f"{changed}.{base64url(as_json({'sub': '42'}))}.{signature}"))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "x", "eA"])
def test_there_is_no_unsigned_token(algorithm: str, signature: str) -> None:
    """Neither with keys nor, above all, without any."""
    token = f"{base64url(as_json({'alg': algorithm}))}.{base64url(b'{}')}.{signature}"
    for desk in (Desk(), Desk(hmac_secret=None)):
        assert is_invalid(desk.connection(token))
        assert is_invalid(desk.either(token))
        assert is_error(desk.subscription(token), PERMISSION_DENIED)


def test_without_keys_nobody_gets_in() -> None:
    """Secure by default: also not with an empty secret."""
    desk = Desk(hmac_secret=None)
    assert is_invalid(desk.connection(sign({}, "\0")))
    assert is_invalid(desk.connection(sign({}, private_key("RSA"), "RS256")))


def test_a_key_in_the_header_is_not_looked_at(desk: Desk) -> None:
    """jwk, jku, x5u and x5c are the sender's word (RFC 8725 section 3.10)."""
    key = private_key("P-256", 2)
    token = sign({}, key, "ES256", jwk=jwk(key), jku="http://127.0.0.1:1/keys", x5u="http://127.0.0.1:1/", x5c=["AAAA"])
    assert is_invalid(desk.connection(token))


@pytest.mark.parametrize(("kind", "algorithm"), [("RSA", "RS256"), ("P-256", "ES256"), ("Ed25519", "EdDSA")])
def test_public_keys(kind: str, algorithm: str) -> None:
    """The three kinds, beside the secret; not the secret's algorithms with the key's text."""
    pem = public_pem(private_key(kind))
    desk = Desk(public_key=pem)
    assert isinstance(desk.connection(sign({}, private_key(kind), algorithm)), Identity)
    assert isinstance(desk.connection(sign({})), Identity)
    assert is_invalid(desk.connection(sign({}, pem)))
    assert is_invalid(desk.connection(sign({}, private_key(kind, 2), algorithm)))


# Claims of weird types

LONG = '"' + "x" * 256 + '"'
TIMES = ('"1800000000"', "null", "-1", "NaN", "Infinity", "1e999", "1e300", "9" * 400, "1800000000000", "[]", "true")
WEIRD_VALUES = {
    **dict.fromkeys(("exp", "nbf", "expire_at"), TIMES),
    "iat": tuple(time for time in TIMES if time != "null"),
    "sub": ("42", "null", '["42"]', "true", LONG, r'"\ud800"', r'"\udfffx"', "'a'"),
    "jti": ("5", LONG),
    "client": ("5", "null", LONG),
    "aud": ("5", "null", "{}"),
    "iss": ("5", "null"),
    "channel": ("5", "null", "[]"),
    "channels": ('"a"', "[1]", "{}", "[null]"),
    "subs": ("[]", '{"a":[]}', '{"a":{"b64data":1}}'),
    "b64info": ("5",),
    "info": ("01", "[1,]", "", '"\x01"', "nul", "[" * 5_000 + "]" * 5_000),
    "ignored": ("'a'", '{"a":' * 1_500 + "1" + "}" * 1_500),
}
WEIRD = [f'{{"{claim}":{value}}}' for claim, values in WEIRD_VALUES.items() for value in values]
NO_CLAIMS = ["null", "[]", '"sub"', "42", "{]", "sub=42", '{"sub":"a"', '{"sub":"a"}{}', "{} x", "[" * 10_000]


@pytest.mark.parametrize("payload", WEIRD + NO_CLAIMS, ids=lambda payload: payload[:30])
def test_weird_claims_are_refused(desk: Desk, payload: str) -> None:
    """Types are strict, numbers bounded, nesting too; a genuine signature does not help."""
    token = sign(payload.encode())
    assert is_invalid(desk.connection(token), "claims: ")
    assert is_invalid(desk.either(token), "claims: ")
    assert is_error(desk.subscription(token), PERMISSION_DENIED)


@pytest.mark.parametrize("payload", [b'{"sub":"\xff"}', b'{"info":"\xff"}', b'{"x":"\xed\xa0\x80"}', b"\xff\xfe{\0}\0"])
def test_claims_in_bad_utf8(desk: Desk, payload: bytes) -> None:
    """Also in members that nobody looks into, since some are sent on as they are."""
    assert is_invalid(desk.connection(sign(payload)), "claims: ")


def test_a_token_beyond_the_limit(desk: Desk) -> None:
    """16 KiB are accepted, more is not looked at."""
    assert isinstance(desk.connection(sign({"info": "x" * 12_000})), Identity)
    assert is_invalid(desk.connection(sign({"info": "x" * 12_300})), "16384 characters at most")


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
JSON = st.recursive(VALUES, lambda i: st.lists(i, max_size=3) | st.dictionaries(st.text(max_size=3), i, max_size=3))
NAMES = ("sub", "exp", "nbf", "iat", "jti", "aud", "iss", "info", "b64info", "expire_at", "channels", "subs", "channel")


# For tests that hypothesis repeats.
DESK = Desk()


@given(claims=st.dictionaries(st.sampled_from((*NAMES, "client", "x")), JSON) | JSON)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_arbitrary_claims(claims: object) -> None:
    """Signed nonsense gives exactly one outcome of the documented kinds."""
    desk = DESK
    token = sign(claims)
    assert isinstance(desk.connection(token), Identity | RequestError | Disconnect)
    assert isinstance(desk.subscription(token), Grant | RequestError)
    assert isinstance(desk.either(token), Identity | Grant | RequestError | Disconnect)


@given(token=st.text(max_size=80))
@settings(derandomize=True)
def test_arbitrary_tokens(token: str) -> None:
    """Unsigned nonsense never gets in."""
    desk = DESK
    assert is_invalid(desk.connection(token))
    assert is_error(desk.subscription(token), PERMISSION_DENIED)
    assert is_invalid(desk.either(token))


def test_what_a_token_says_it_is() -> None:
    """Before anybody has verified it; nonsense is no subscription token."""
    assert is_subscription_token(sign({"channel": "room"}, "another secret of thirty-two bytes"))
    assert is_subscription_token(sign({"channel": ""}))
    assert not is_subscription_token(sign({"sub": "42"}))
    assert not is_subscription_token(sign({"channel": 5}))
    assert not is_subscription_token("nonsense")


# Key sets

ROTATED = private_key("P-256", 2)


def test_a_key_set_in_a_file(tmp_path: Path) -> None:
    """Its keys count beside those of the settings, and only under their id."""
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(jwk(private_key("RSA"), kid="k1")))
    desk = Desk(jwks_file=str(path))
    assert isinstance(desk.connection(sign({}, private_key("RSA"), "RS256", kid="k1")), Identity)
    assert isinstance(desk.connection(sign({})), Identity)
    assert is_invalid(desk.connection(sign({}, private_key("RSA"), "RS256", kid="k2")))
    assert is_invalid(desk.connection(sign({}, private_key("RSA"), "RS256")))
    assert is_invalid(desk.connection(sign({}, ROTATED, "ES256", kid="k1")))


class Remote:
    """A desk whose keys are behind a URL."""

    def __init__(self, server: KeyServer, **auth: Any) -> None:
        self.server = server
        self.desk = Desk(jwks_url=server.url, **auth)

    async def __aenter__(self) -> "Remote":
        await self.desk.verifier.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.desk.verifier.stop()

    async def connection(self, token: str) -> Outcome:
        """The outcome, whenever it comes."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.desk.verifier.connection(token, future.set_result)
        return await future


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No distance between two fetches."""
    monkeypatch.setattr("gateway.auth.jwks.FETCH_INTERVAL", 0.0)


def token_of(key: Any = ROTATED, algorithm: str = "ES256", kid: str = "new", **claims: Any) -> str:
    return sign({"sub": "42", **claims}, key, algorithm, kid=kid)


OLD_SET = answer(key_set(jwk(private_key("P-256"), kid="old")))
NEW_SET = answer(key_set(jwk(ROTATED, kid="new")))


@pytest.mark.usefixtures("quick")
def test_a_key_set_behind_a_url() -> None:
    """A known key answers at once; an unknown one is fetched, and then the token is good, or expired, or wrong."""

    async def run() -> None:
        async with KeyServer(OLD_SET) as server, Remote(server) as remote:
            known = token_of(private_key("P-256"), kid="old")
            assert isinstance(remote.desk.connection(known), Identity)
            server.answer = NEW_SET
            assert await remote.connection(token_of()) == Identity(DEFAULT_APP, "42")
            assert is_error(await remote.connection(token_of(exp=NOW - 1)), TOKEN_EXPIRED)
            assert is_invalid(await remote.connection(known), "no key here")
            assert len(server.requests) == 3

    asyncio.run(run())


@pytest.mark.usefixtures("quick")
def test_what_no_fetch_could_help_fetches_nothing() -> None:
    """A wrong signature with a known key, and algorithms that a key set never has."""

    async def run() -> None:
        async with KeyServer(NEW_SET) as server, Remote(server) as remote:
            assert is_invalid(remote.desk.connection(token_of(private_key("P-256"))))
            assert is_invalid(remote.desk.connection(sign({}, "another secret of thirty-two bytes", kid="other")))
            assert is_invalid(remote.desk.connection(token_of() + "x" * 2))
            assert isinstance(remote.desk.connection(sign({}, kid="other")), Identity)
            assert is_invalid(remote.desk.connection(sign({}, SECRET, header={"alg": "none", "kid": "other"})))
            assert len(server.requests) == 1

    asyncio.run(run())


@pytest.mark.usefixtures("quick")
def test_an_endpoint_that_fails_is_not_the_clients_fault() -> None:
    """An unknown key gets a temporary error, so that the client tries again; a known key is as good as before."""

    async def run() -> None:
        async with KeyServer(OLD_SET) as server, Remote(server) as remote:
            server.answer = b""
            outcome = await remote.connection(token_of())
            assert is_error(outcome, INTERNAL)
            assert "cannot be fetched" in str(outcome)
            assert isinstance(remote.desk.connection(token_of(private_key("P-256"), kid="old")), Identity)

    asyncio.run(run())


def test_stopping_answers_those_who_wait() -> None:
    """Nobody's `done` is forgotten."""

    async def run() -> None:
        async with KeyServer(OLD_SET) as server, Remote(server) as remote:
            waiting = asyncio.create_task(remote.connection(token_of()))
            await server.turns()
            assert not waiting.done()
            await remote.desk.verifier.stop()
            assert is_error(await waiting, INTERNAL)

    asyncio.run(run())


def test_start_and_stop_without_a_url(desk: Desk) -> None:
    """There is nothing to do."""

    async def run() -> None:
        await desk.verifier.start()
        await desk.verifier.stop()

    asyncio.run(run())


# Other keys while it runs


def verifier_of(**auth: Any) -> TokenVerifier:
    return TokenVerifier(AuthSettings.model_validate(auth), Revocations(), lambda: float(NOW))


def test_keys_can_be_those_of_others(desk: Desk) -> None:
    """The key before is good for nothing, unless it is kept as the previous one."""
    fresh = "another secret of thirty-two bytes"
    old, new = sign({"sub": "42"}), sign({"sub": "42"}, fresh)
    desk.verifier.adopt(verifier_of(hmac_secret=fresh, hmac_secret_previous=SECRET))
    assert isinstance(desk.connection(old), Identity)
    assert isinstance(desk.connection(new), Identity)
    desk.verifier.adopt(verifier_of(hmac_secret=fresh, audience="a"))
    assert is_invalid(desk.connection(old), "no key here")
    assert is_invalid(desk.connection(new), "audience")
    desk.verifier.adopt(verifier_of())
    assert is_invalid(desk.connection(new), "no key here")


def test_a_key_set_at_the_same_url_stays() -> None:
    """It is not fetched again, and what waits for it goes on waiting."""

    async def run() -> None:
        async with KeyServer(OLD_SET) as server, Remote(server) as remote:
            waiting = asyncio.create_task(remote.connection(token_of()))
            await server.turns()
            remote.desk.verifier.adopt(verifier_of(jwks_url=server.url, hmac_secret=SECRET))
            assert isinstance(remote.desk.connection(sign({"sub": "42"})), Identity)
            assert isinstance(remote.desk.connection(token_of(private_key("P-256"), kid="old")), Identity)
            await server.turns()
            assert len(server.requests) == 1
            assert not waiting.done()
            await remote.desk.verifier.stop()
            assert is_error(await waiting, INTERNAL)

    asyncio.run(run())


def test_a_key_set_can_come_from_another_url() -> None:
    """Tokens that come before it wait; those that wait for the one before are told to come again."""

    async def run() -> None:
        async with KeyServer(OLD_SET) as server, KeyServer(NEW_SET) as other, Remote(server) as remote:
            before = asyncio.create_task(remote.connection(token_of()))
            await server.turns()
            remote.desk.verifier.adopt(verifier_of(jwks_url=other.url))
            assert await remote.connection(token_of()) == Identity(DEFAULT_APP, "42")
            assert is_error(await before, INTERNAL)
            assert is_invalid(remote.desk.connection(sign({"sub": "42"})), "no key here")
            # And to none.
            remote.desk.verifier.adopt(verifier_of(hmac_secret=SECRET))
            assert is_invalid(remote.desk.connection(token_of()), "no key here")

    asyncio.run(run())


def test_a_key_set_behind_a_url_can_come_later(desk: Desk) -> None:
    """In place of none."""

    async def run() -> None:
        async with KeyServer(NEW_SET) as server:
            desk.verifier.adopt(verifier_of(jwks_url=server.url))
            found = asyncio.get_running_loop().create_future()
            desk.verifier.connection(token_of(), found.set_result)
            assert await found == Identity(DEFAULT_APP, "42")
            await desk.verifier.stop()

    asyncio.run(run())
