"""What nodes tell publishers means there what it means on the nodes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker.redis.posted_settings import posted, read
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.errors import BrokerUnavailable
from gateway.messages import DEFAULT_APP

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "delivery": st.sampled_from(["live", "recoverable", "latest"]),
        "history_size": st.integers(0, 50),
        "history_ttl": st.integers(1, 100),
        "history_meta_ttl": st.integers(1, 100),
        "latest_key": st.sampled_from(["key", "symbol"]),
        "latest_keys": st.integers(1, 10),
        "latest_ttl": st.integers(1, 10),
        "latest_size": st.integers(1, 10),
        "delta": st.booleans(),
        # Of no concern to publishers.
        "presence": st.booleans(),
        "allow_publish": st.just(["client"]),
    },
)
SETTINGS = st.fixed_dictionaries(
    {"channels": OPTIONS, "namespaces": st.dictionaries(st.sampled_from(["demo", "chat"]), OPTIONS)},
    optional={
        "no_auth": st.booleans(),
        "demo": st.booleans(),
        "limits": st.fixed_dictionaries({"message_size": st.integers(1, 1000)}),
        "personal": st.fixed_dictionaries({"enabled": st.booleans()}),
        "redis": st.fixed_dictionaries({"partitions": st.integers(1, 300), "durable": st.booleans()}),
        "api": st.fixed_dictionaries({"max_batch": st.integers(1, 100)}),
    },
).map(ServerSettings.model_validate)


@given(SETTINGS)
def test_all_that_a_publish_depends_on_comes_through(settings: ServerSettings) -> None:
    """Also channels that `no_auth` and `demo` open, without a word of those."""
    found = read(posted(settings).document)
    here, there = Channels(settings), Channels(found)
    assert here.namespaces == there.namespaces
    for name in ("room", "$room", *(f"{each}:room" for each in here.namespaces)):
        ours, theirs = (each.resolve(DEFAULT_APP, name) for each in (here, there))
        assert ours.publishing == theirs.publishing
        assert ours.options.delta == theirs.options.delta
    assert here.personal(DEFAULT_APP, "7") == there.personal(DEFAULT_APP, "7")
    assert found.limits.message_size == settings.limits.message_size
    assert found.api.max_batch == settings.api.max_batch
    assert (found.redis.partitions, found.redis.durable) == (settings.redis.partitions, settings.redis.durable)
    assert posted(found) == posted(settings)


def test_secrets_stay_on_the_nodes() -> None:
    secret = "a secret that is longer than 32 bytes"
    settings = ServerSettings.model_validate(
        {"auth": {"hmac_secret": secret}, "api": {"keys": [secret]}, "redis": {"url": "redis://:geheim@a"}}
    )
    document = posted(settings).document
    assert b"secret" not in document
    assert b"geheim" not in document
    assert posted(settings) == posted(ServerSettings())


def test_options_of_a_newer_version_are_ignored() -> None:
    content = msgspec.json.decode(posted(ServerSettings()).document)
    content["channels"]["new"] = content["limits"]["new"] = content["new"] = 1
    assert posted(read(msgspec.json.encode(content))) == posted(ServerSettings())


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"format":1}', b"[" * 5000, b"\xff"])
def test_what_no_node_has_written_is_refused(document: bytes) -> None:
    with pytest.raises(BrokerUnavailable, match=r"cannot be read|in format"):
        read(document)


@pytest.mark.parametrize(("field", "value"), [("delivery", "new"), ("history_size", -1), ("history_ttl", "x")])
def test_values_that_are_not_known_are_refused(field: str, value: object) -> None:
    """Publishing without knowing how would break what subscribers rely on."""
    content = msgspec.json.decode(posted(ServerSettings()).document)
    content["channels"][field] = value
    with pytest.raises(BrokerUnavailable, match="cannot be read"):
        read(msgspec.json.encode(content))
