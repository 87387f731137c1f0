"""Django, and the gateway at /realtime."""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.core.asgi import get_asgi_application
from django.db import close_old_connections
from starlette.applications import Starlette
from starlette.routing import Mount

from gateway import Gateway, Hooks
from gateway.hooks import ConnectRequest, ConnectResult, Denied

ORIGINS = ["http://localhost:8000", "http://127.0.0.1:8000"]

hooks = Hooks()
gateway = Gateway(
    {"channels": {"allow_subscribe": ["client"], "delivery": "recoverable"}, "origins": {"allowed": ORIGINS}},
    hooks=hooks,
)
app = Starlette(
    routes=[Mount("/realtime", gateway), Mount("/", get_asgi_application())],
    lifespan=gateway.lifespan,
)


@sync_to_async
def user_of(session_key: str | None) -> Any:
    """As AuthenticationMiddleware finds the user of a request; anonymous without a valid session."""
    close_old_connections()
    try:
        session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
        return get_user(SimpleNamespace(session=session))
    finally:
        close_old_connections()


@hooks.connect
async def log_in(request: ConnectRequest) -> ConnectResult:
    user = await user_of(request.cookie(settings.SESSION_COOKIE_NAME))
    if not user.is_authenticated:
        raise Denied("log in first")
    return ConnectResult(user=str(user.pk), info={"name": user.username})
