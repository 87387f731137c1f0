"""The table, and on PostgreSQL the trigger that wakes the relay."""

from typing import Any

from django.db import migrations, models
from django.db.models.functions import Now

from gateway.outbox.rows import DROP_TRIGGER, TRIGGER


def create_trigger(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(TRIGGER)


def drop_trigger(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(DROP_TRIGGER)


class Migration(migrations.Migration):  # type: ignore[misc]  # Django has no types
    initial = True
    dependencies: list[Any] = []
    operations = [
        migrations.CreateModel(
            "OutboxRow",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("channel", models.CharField(max_length=255)),
                ("publication", models.TextField()),
                ("created_at", models.DateTimeField(db_default=Now())),
                ("error", models.TextField(null=True)),
            ],
            options={
                "db_table": "gateway_outbox",
                "indexes": [
                    models.Index(fields=["id"], name="gateway_outbox_waiting", condition=models.Q(error__isnull=True))
                ],
            },
        ),
        # Only where the router lets the table be.
        migrations.RunPython(create_trigger, drop_trigger, hints={"model_name": "outboxrow"}),
    ]
