"""The table, as Django sees it."""

from django.db import models
from django.db.models.functions import Now

from gateway.outbox.rows import TABLE


class OutboxRow(models.Model):  # type: ignore[misc]  # Django has no types
    """A publication that waits for the relay; with an `error`, one that the gateway refused."""

    channel = models.CharField(max_length=255)
    publication = models.TextField()
    created_at = models.DateTimeField(db_default=Now())
    # Null, not empty, as in the table that SQLAlchemy makes.
    error = models.TextField(null=True)

    class Meta:
        db_table = TABLE
        indexes = [
            models.Index(fields=["id"], name=f"{TABLE}_waiting", condition=models.Q(error__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.pk} {self.channel}"
