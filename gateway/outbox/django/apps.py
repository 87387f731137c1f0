"""The app, as Django loads it."""

from django.apps import AppConfig


class OutboxConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    name = "gateway.outbox.django"
    label = "gateway_outbox"
    verbose_name = "Outbox of the gateway"
    default_auto_field = "django.db.models.BigAutoField"
