"""Revoked tokens: by user until a moment, or by their id."""

import pytest

from gateway.auth.revocations import Revocations
from gateway.control import KEPT_BEYOND, Revocation
from tests.fakes import ManualScheduler

NOW = 1_700_000_000


@pytest.fixture
def time() -> ManualScheduler:
    return ManualScheduler(NOW)


def test_a_user_is_revoked_until_a_moment() -> None:
    """What was issued before it is refused; a token of that moment is fine, and so are other users and other apps."""
    revocations = Revocations()
    revocations.add(Revocation("app", user="17", issued_before=NOW))
    assert revocations.is_revoked("app", "17", "", NOW - 0.5)
    assert revocations.is_revoked("app", "17", "any", NOW - 1)
    assert not revocations.is_revoked("app", "17", "", NOW)
    assert not revocations.is_revoked("app", "18", "", NOW - 1)
    assert not revocations.is_revoked("other", "17", "", NOW - 1)


KICKED = Revocation("app", "17", issued_before=NOW, channel="room")


def test_a_user_is_kicked_from_one_channel() -> None:
    """By older tokens it opens no more; they are good otherwise. Names are not mixed up, whatever is in them."""
    revocations = Revocations()
    odd = Revocation("app", "a:b\0#", issued_before=NOW, channel="c:$d#a")
    for each in (KICKED, odd):
        assert revocations.add(each)
        assert not revocations.add(each)
    assert revocations.is_kicked("app", "17", "room", NOW - 1)
    assert revocations.is_kicked("app", "17", "room", 0)
    assert not revocations.is_kicked("app", "17", "room", NOW)
    assert not revocations.is_kicked("app", "17", "room2", 0)
    assert not revocations.is_kicked("app", "18", "room", 0)
    assert not revocations.is_kicked("other", "17", "room", 0)
    assert not revocations.is_revoked("app", "17", "", 0)
    assert not revocations.is_revoked("app", "17", "room", 0)
    assert revocations.is_kicked("app", "a:b\0#", "c:$d#a", NOW - 1)
    assert not revocations.is_kicked("app", "a", "b\0#c:$d#a", 0)
    assert not revocations.add(Revocation("app", channel="room"))


def test_a_kick_is_merged_given_back_and_forgotten(time: ManualScheduler) -> None:
    """As other revocations, and apart from one of the whole user."""
    revocations = Revocations(time.time)
    of_user, kick = (Revocation("app", "17", "", NOW, NOW + 10, name) for name in ("", "room"))
    assert revocations.merge([kick, of_user]).learned in ([kick, of_user], [of_user, kick])
    assert set(revocations.merge([]).forgotten) == {kick, of_user}
    later = Revocation("app", "17", "", NOW + 5, NOW + 5, "room")
    stronger = Revocation("app", "17", "", NOW + 5, NOW + 10, "room")
    assert revocations.merge([later, of_user]).forgotten == [stronger]
    time.advance(KEPT_BEYOND + 10)
    revocations.merge([])
    assert len(revocations) == 0


def test_what_happened_while_somebody_was_asked_can_be_told() -> None:
    """Of one user and channel; what was known already is nothing new."""
    revocations = Revocations()
    revocations.add(KICKED)
    asked = revocations.number
    revocations.merge([KICKED, Revocation("app", "18", issued_before=NOW), Revocation("app", jti="17")])
    assert not revocations.is_newer("app", "17", "room", asked)
    assert revocations.is_newer("app", "18", "", asked)
    assert not revocations.is_newer("app", "18", "room", asked)
    revocations.add(Revocation("app", "17", issued_before=NOW + 1, channel="room"))
    assert revocations.is_newer("app", "17", "room", asked)
    assert not revocations.is_newer("app", "17", "", asked)


def test_a_token_that_does_not_say_when_it_was_issued_is_refused() -> None:
    """It could be older than the revocation."""
    revocations = Revocations()
    revocations.add(Revocation("app", user="17", issued_before=NOW))
    assert revocations.is_revoked("app", "17", "", 0)


def test_one_token_is_revoked_by_its_id() -> None:
    """Whoever's it is, and only in its app; tokens without an id are not meant."""
    revocations = Revocations()
    revocations.add(Revocation("app", jti="t1"))
    assert revocations.is_revoked("app", "17", "t1", NOW)
    assert not revocations.is_revoked("app", "17", "t2", NOW)
    assert not revocations.is_revoked("app", "17", "", NOW)
    assert not revocations.is_revoked("other", "17", "t1", NOW)


def test_user_and_id_are_not_mixed_up() -> None:
    """A user named like a token id is not revoked by it, and with an id only that one token is meant."""
    revocations = Revocations()
    revocations.add(Revocation("app", user="17", jti="x", issued_before=NOW))
    assert revocations.is_revoked("app", "18", "x", NOW)
    assert not revocations.is_revoked("app", "17", "y", NOW)
    assert not revocations.is_revoked("app", "x", "", 0)


def test_an_empty_revocation_revokes_nobody() -> None:
    """Anonymous clients in particular."""
    revocations = Revocations()
    revocations.add(Revocation("app", issued_before=NOW))
    assert not revocations.is_revoked("app", "", "", 0)
    assert len(revocations) == 0


@pytest.mark.parametrize("order", [1, -1])
def test_the_latest_revocation_of_a_user_counts(order: int) -> None:
    """In whatever order they arrive."""
    revocations = Revocations()
    for issued_before in (NOW - 10, NOW)[::order]:
        revocations.add(Revocation("app", user="17", issued_before=issued_before))
    assert revocations.is_revoked("app", "17", "", NOW - 1)
    assert len(revocations) == 1


def test_what_the_registry_has_is_known_too() -> None:
    """Read from it at the start and now and then; what came by control message meanwhile stays."""
    revocations = Revocations()
    by_message = Revocation("app", jti="t1")
    revocations.add(by_message)
    stored = [by_message, Revocation("app", jti="t2"), Revocation("app", user="17", issued_before=NOW)]
    assert revocations.merge(stored).forgotten == []
    assert revocations.is_revoked("app", "1", "t1", NOW)
    assert revocations.is_revoked("app", "1", "t2", NOW)
    assert revocations.is_revoked("app", "17", "", NOW - 1)


def test_a_registry_that_lost_its_data_gets_it_back() -> None:
    """Only what counts: of a user the latest."""
    revocations = Revocations()
    of_user, of_token = Revocation("app", user="17", issued_before=NOW), Revocation("app", jti="t1")
    revocations.add(of_user)
    revocations.add(of_token)
    assert revocations.merge([]).forgotten == [of_user, of_token]
    assert revocations.merge([of_token]).forgotten == [of_user]
    assert revocations.merge([Revocation("app", user="17", issued_before=NOW - 10), of_token]).forgotten == [of_user]
    later = Revocation("app", user="17", issued_before=NOW + 10)
    assert revocations.merge([later, of_token]).forgotten == []


@pytest.mark.parametrize("order", [1, -1])
def test_two_revocations_of_the_same_are_as_strong_as_both(time: ManualScheduler, order: int) -> None:
    """One for ever stays for ever, one until later stays until later; of a user, up to the later moment of issue."""
    for user, jti in (("17", ""), ("", "t1")):
        forever, short = Revocation("app", user, jti), Revocation("app", user, jti, NOW, NOW + 10)
        longer = Revocation("app", user, jti, NOW - 5, NOW + 100)
        revocations = Revocations(time.time)
        for each in (short, longer)[::order]:
            revocations.add(each)
        assert revocations.merge([]).forgotten == [Revocation("app", user, jti, NOW, NOW + 100)]
        revocations = Revocations(time.time)
        for each in (forever, short)[::order]:
            revocations.add(each)
        assert revocations.merge([]).forgotten == [Revocation("app", user, jti, NOW)]


def test_what_was_learned_is_told_once() -> None:
    """So that what lives on it can be closed."""
    revocations = Revocations()
    stored = [Revocation("app", user="17", issued_before=NOW), Revocation("app", jti="t1")]
    revocations.add(stored[1])
    assert revocations.merge(stored).learned == [stored[0]]
    assert revocations.merge(stored).learned == []


def test_records_past_their_time_are_swept(time: ManualScheduler) -> None:
    """Without the sweep they would pile up. Not at once: what lives on their tokens may outlive them by a while."""
    revocations = Revocations(time.time)
    kept = Revocation("app", jti="kept", expire_at=NOW + 100)
    revocations.add(Revocation("app", jti="short", expire_at=NOW + 10))
    revocations.merge([kept, Revocation("app", user="17", issued_before=NOW, expire_at=NOW)])
    assert len(revocations) == 3
    time.advance(KEPT_BEYOND + 10)
    assert revocations.merge([]).forgotten == [kept]
    assert len(revocations) == 1
    time.advance(100)
    assert revocations.merge([kept]).forgotten == []
    assert len(revocations) == 0
