"""Settings as TOML, with secrets masked and the origin of each value that was given."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import SecretStr

from gateway.config.fields import Section
from gateway.config.settings import ServerSettings

_HIDDEN = "***"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:([^:/@]*)(:[^/@]*)?@)?([^?#]*)")


def describe(settings: ServerSettings, origins: Mapping[str, str] | None = None, *, everything: bool = True) -> str:
    """TOML 1.0 that loads again, except for the masked secrets. `origins` is that of `sources.Loaded`.

    Without `everything`, only settings that differ from their defaults; empty if none does.
    """
    lines = _section(settings, (), origins or {}, everything=everything)
    return "".join(f"{line}\n" for line in lines).lstrip("\n")


def describe_table(section: Section, path: tuple[str, ...], origins: Mapping[str, str], *, everything: bool) -> str:
    """One table of the settings, with its header even if nothing follows; otherwise as `describe`."""
    lines = [_header(path), *_section(section, path, origins, everything=everything)]
    return "".join(f"{line}\n" for line in lines)


def _section(section: Section, path: tuple[str, ...], origins: Mapping[str, str], *, everything: bool) -> Iterator[str]:
    tables: list[tuple[tuple[str, ...], Section]] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            tables.append(((*path, name), value))
        elif _has_sections(value):
            tables += (((*path, name, key), below) for key, below in value.items())
        elif everything or value != type(section).model_fields[name].default:
            origin = origins.get(".".join((*path, name)))
            yield _setting(name, value) + (f"  # {_comment(origin)}" if origin else "")
    for below, table in tables:
        lines = list(_section(table, below, origins, everything=everything))
        # That a namespace exists is not a default.
        if lines or everything or below[-2:-1] == ("namespaces",):
            yield ""
            yield _header(below)
            yield from lines


def _has_sections(value: Any) -> bool:
    """Whether it is a table of tables, as the namespaces are. (Of one without entries there is nothing to tell.)"""
    return isinstance(value, dict) and all(isinstance(each, Section) for each in value.values())


def _header(path: Iterable[str]) -> str:
    return f"[{'.'.join(map(_key, path))}]"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _setting(name: str, value: Any) -> str:
    # TOML has no null.
    return f"# {name} is not set" if value is None else f"{name} = {_value(value)}"


def _comment(origin: str) -> str:
    return origin if origin.isprintable() else repr(origin)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_value(each)}' for key, each in value.items())} }}"
    if isinstance(value, tuple):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return _text(mask_url(secret) if "://" in secret else _HIDDEN)
    return _text(mask_url(value) if isinstance(value, str) and "://" in value else str(value))


def mask_url(url: str) -> str:
    """The URL with its password masked, and its query string, which may contain one."""
    match = _URL.match(url)
    if match is None:
        return _HIDDEN
    scheme, user, password, rest = match.groups()
    # redis-py and others take a login without a colon as a user name; servers of key sets take it as a secret.
    login = "" if user is None else f"{user}:{_HIDDEN}@" if password else f"{_HIDDEN}@"
    return scheme + login + rest + (f"?{_HIDDEN}" if match.end() < len(url) else "")


def _text(text: str) -> str:
    """A TOML basic string. TOML knows all escapes that JSON writes."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
