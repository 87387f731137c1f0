"""A transactional outbox: publications that are committed with the data of an application, or not at all.

    rows             what a row holds, checked where it is written; no I/O
    sqlalchemy       writes rows in the transaction of a SQLAlchemy session
    django           writes rows in Django's transactions; an app with a model and a migration
    relay            publishes rows, in order, and removes them; knows its table and its gateway by ports; no I/O
    postgres         the table in PostgreSQL, for the relay
    http_sender      publishes over the HTTP API, for the relay

Only `sqlalchemy`, `django` and `postgres` need what the gateway itself does not: install the one that is used.
docs/outbox.md says what is promised.
"""
