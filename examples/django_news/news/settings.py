"""Only what this example needs."""

import os

from psycopg.conninfo import conninfo_to_dict

SECRET_KEY = "change me"
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "news.views"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "gateway.outbox.django",
    "news",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
# There are no forms here that would carry a CSRF token: no other site may send the cookie.
SESSION_COOKIE_SAMESITE = "Strict"

# The relay reads the same variable.
options = conninfo_to_dict(os.environ["DATABASE_URL"])
DATABASES = {
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": options.pop("dbname", "news"), "OPTIONS": options}
}
