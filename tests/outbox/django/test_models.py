"""Rows that are written in transactions of Django."""

import django
import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import transaction

from gateway.outbox import django as outbox
from gateway.outbox.django import apps as app

DATABASE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}


class Router:
    """Decides by the model alone, as Django's guide does."""

    def __init__(self) -> None:
        # Where an operation without a model was let through.
        self.unknown: list[str] = []

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: object) -> bool | None:
        if model_name is None and app_label == "gateway_outbox":
            self.unknown.append(db)
        return not (db == "without" and model_name == "outboxrow")


@pytest.fixture(scope="module", autouse=True)
def database() -> None:
    """Django has one configuration per process."""
    settings.configure(
        SECRET_KEY="x",
        INSTALLED_APPS=["gateway.outbox.django"],
        DATABASES={"default": DATABASE, "other": DATABASE, "without": DATABASE},
        DATABASE_ROUTERS=[Router()],
        USE_TZ=True,
    )
    django.setup()
    for name in settings.DATABASES:
        call_command("migrate", database=name, verbosity=0)


def channels(using: str = "default") -> list[str]:
    """Of all rows; they are removed."""
    rows = apps.get_model("gateway_outbox", "OutboxRow").objects.using(using)
    found = [str(row).partition(" ")[2] for row in rows.order_by("id")]
    rows.all().delete()
    return found


def test_rows_are_part_of_the_transaction() -> None:
    with transaction.atomic():
        outbox.publish("undone", 1)
        transaction.set_rollback(True)
    with transaction.atomic():
        outbox.publish("a", {"text": "hi"}, tags={"a": "b"})
        outbox.publish("b", b"\0")
    assert channels() == ["a", "b"]


def test_the_app_has_a_name_of_its_own() -> None:
    """`django` would not be one."""
    assert apps.get_app_config("gateway_outbox").name == app.OutboxConfig.name == "gateway.outbox.django"


def test_the_database_can_be_named() -> None:
    outbox.publish("a", 1, using="other")
    assert channels() == []
    assert channels("other") == ["a"]


def test_a_wrong_row_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no channel name"):
        outbox.publish("a b", 1)
    assert channels() == []


def test_the_migration_makes_what_the_model_says(capsys: pytest.CaptureFixture[str]) -> None:
    """And can be undone."""
    call_command("makemigrations", "--check", verbosity=0)
    call_command("migrate", "gateway_outbox", "zero", verbosity=0)
    call_command("migrate", verbosity=0)


def test_a_database_without_the_table_gets_no_trigger() -> None:
    """Which would fail there. Routers are told the model."""
    (router,) = settings.DATABASE_ROUTERS
    assert router.unknown == []
