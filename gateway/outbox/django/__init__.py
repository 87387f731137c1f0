"""The outbox of an application with Django 5.2 or newer: add "gateway.outbox.django" to INSTALLED_APPS, and migrate."""

from typing import Any

from gateway.outbox.rows import values


def publish(channel: str, data: Any, *, using: str | None = None, **options: Any) -> None:
    """Publish `data` (a JSON value, or bytes) to a channel if the current transaction commits.

    `using` is a database of DATABASES; by default the one to which the router sends the model. `options` are `event`,
    `tags`, `exclude_client`, `skip_history`, `version` and `version_epoch` of `gateway.outbox.rows.values`. Outside of
    `transaction.atomic` Django commits at once. Raises TypeError or ValueError.
    """
    # Django loads models after this module.
    from gateway.outbox.django.models import OutboxRow

    OutboxRow(**values(channel, data, **options)).save(using=using, force_insert=True)
