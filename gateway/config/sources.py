"""Where the settings come from: a TOML file, the environment and flags, in rising precedence.

Anything unknown or wrong in them stops the start. All problems are named at once. The exception is the environment,
which other programs share: a variable that resembles none of ours is only warned of.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config import checks, misspellings, urls
from gateway.config.description import mask_url
from gateway.config.fields import listed
from gateway.config.redis_url import Target as RedisTarget
from gateway.config.schema import Node, Path, Schema
from gateway.config.settings import ServerSettings
from gateway.errors import ConfigError

PREFIX = "GATEWAY_"
DEFAULT_FILE = FilePath("gateway.toml")
API_KEY = "GATEWAY_API_KEY"
# Variables of the commands, which are not settings: the file to read, and the gateway that client commands talk to.
RESERVED = frozenset({"GATEWAY_CONFIG", "GATEWAY_URL", API_KEY})
# Names that other servers have for their address.
_ADDRESS = ("GATEWAY_PORT", "GATEWAY_HOST")

# Variables that Kubernetes injects for every Service of the Kubernetes namespace, here for Services named gateway or
# gateway-SOMETHING (kubernetes.io: "Accessing the Service", environment variables).
_SERVICE_LINK = re.compile(r"GATEWAY_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_.+)?)")
_SERVICE_PORT = re.compile(r"GATEWAY_([A-Z0-9_]+_)?PORT")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")
_SECRETIVE = re.compile(r"secret|key|pass|token|url|cred|auth|pem", re.IGNORECASE)
_LIST = re.compile(r"\s*\[")
_LIST_OF_TEXTS = re.compile(r"\s*\[\s*[\"\]]")
_SHOWN = 80


class Loaded(NamedTuple):
    """The settings, and the origin of each setting that was given (by dotted name): a variable, a flag or the file."""

    settings: ServerSettings
    origins: dict[str, str]
    # About variables that are not settings.
    warnings: tuple[str, ...] = ()

    def without_drain(self) -> ServerSettings:
        """The settings with a drain that takes no time, unless its window was given."""
        if "drain.window" in self.origins:
            return self.settings
        drain = self.settings.drain.model_copy(update={"window": 0.0})
        return self.settings.model_copy(update={"drain": drain})


@dataclass(slots=True)
class _Source:
    """The values of one source. `labels` names the origin of a path and of all paths below it."""

    values: dict[str, Any] = field(default_factory=dict)
    labels: dict[Path, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def assign(self, path: Path, value: Any, label: str) -> None:
        section = self.values
        for key in path[:-1]:
            below = section.setdefault(key, {})
            if not isinstance(below, dict):
                below = section[key] = {}
            section = below
        section[path[-1]] = value
        self.labels[path] = label

    def label(self, path: Path) -> str | None:
        """Where the value at the path comes from; None when this source has none."""
        section: Any = self.values
        for key in path:
            if not isinstance(section, dict) or key not in section:
                return None
            section = section[key]
        for length in range(len(path), -1, -1):
            if path[:length] in self.labels:
                return self.labels[path[:length]]
        below = (label for known, label in self.labels.items() if known[: len(path)] == path)
        return ", ".join(sorted(below))


def read(
    config_file: FilePath | None,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    code: Mapping[str, Any] = MappingProxyType({}),
) -> Loaded:
    """The settings from all sources.

    `config_file` None: the file of GATEWAY_CONFIG, else ./gateway.toml if there is one. `flags` maps dotted names
    ("redis.url") to values; None means that the flag was not given. `code`: what an application gives to Gateway().
    Raises ConfigError, one line per problem.
    """
    schema = Schema(ServerSettings)
    # highest precedence first
    environment = _environment(schema, environ)
    file = _file(settings_file(config_file, environ))
    return _merged(schema, [_flags(flags), _code(code), environment, file], environ)


def of_code(code: Mapping[str, Any]) -> ServerSettings:
    """The settings that code gives, and no others. Raises ConfigError, one line per problem."""
    return _merged(Schema(ServerSettings), [_Source(), _code(code), _Source(), _Source()], {}).settings


def _merged(schema: Schema, sources: "list[_Source]", environ: Mapping[str, str]) -> Loaded:
    """The settings of flags, code, variables and file."""
    _, _, environment, file = sources
    problems = [problem for source in sources for problem in source.problems]
    settings: ServerSettings | None = None
    values: dict[str, Any] = {}
    for source in reversed(sources):
        _lay(source.values, over=values)
    problems += _clashes(environment, file)
    try:
        settings = ServerSettings.model_validate(values)
    except ValidationError as error:
        problems += _Explanation(schema, sources).lines(error)
    origins = dict(_origins(schema, settings, sources)) if settings is not None else {}
    if settings is not None:
        problems += checks.errors(settings, lambda name: f" ({_plain(origins[name])})" if name in origins else "")
    if settings is None or problems:
        raise ConfigError(_listed(problems))
    warnings = [warning for source in sources for warning in source.warnings]
    if API_KEY in environ and not settings.api.keys:
        warnings.append(f"{API_KEY} is for commands that call the API; nodes take their keys from {PREFIX}API__KEYS")
    return Loaded(settings, origins, tuple(warnings))


def _listed(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} problems in the settings:", *(f"  {problem}" for problem in problems)])


def _lay(values: dict[str, Any], over: dict[str, Any]) -> None:
    """Override values with these. Sections that both have are merged setting by setting."""
    for key, value in values.items():
        below = over.get(key)
        if isinstance(value, dict):
            over[key] = section = dict(below) if isinstance(below, dict) else {}
            _lay(value, over=section)
        else:
            over[key] = value


def _origins(schema: Schema, settings: ServerSettings, sources: list[_Source]) -> Iterator[tuple[str, str]]:
    paths = list(schema.paths())
    for name in settings.namespaces:
        paths += schema.paths(schema.find(("namespaces", name)), ("namespaces", name))
    for path in paths:
        label = next((label for source in sources if (label := source.label(path))), None)
        if label and (schema.find(path) or {}).get("type") != "object":
            yield ".".join(path), label


def _code(code: Mapping[str, Any]) -> _Source:
    return _Source(dict(code), {(): "Gateway(...)"} if code else {})


def _flags(flags: Mapping[str, Any]) -> _Source:
    source = _Source()
    for name, value in flags.items():
        if value is not None:
            source.assign(tuple(name.split(".")), value, "--" + re.sub(r"[._]", "-", name))
    return source


def settings_file(given: FilePath | None, environ: Mapping[str, str]) -> FilePath | None:
    """The file that is read, None for none. Raises ConfigError."""
    if given is not None:
        return given
    if "GATEWAY_CONFIG" in environ:
        if not environ["GATEWAY_CONFIG"]:
            raise ConfigError("GATEWAY_CONFIG is empty: expected the path of a TOML file, or the variable unset")
        return FilePath(environ["GATEWAY_CONFIG"])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _file(path: FilePath | None) -> _Source:
    """The TOML file. A file that cannot be read or parsed ends the load here, since nothing in it can be checked."""
    if path is None:
        return _Source()
    try:
        text = path.read_text(encoding="utf-8")
        return _Source(tomllib.loads(text), {(): str(path)})
    except OSError as error:
        raise ConfigError(f"{path}: the settings file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text at byte {error.start}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _is_service_link(name: str, value: str) -> bool:
    if name.startswith("GATEWAY_SERVICE_") or _SERVICE_LINK.fullmatch(name):
        return True
    return bool(_SERVICE_PORT.fullmatch(name) and _SERVICE_URL.match(value))


def _environment(schema: Schema, environ: Mapping[str, str]) -> _Source:
    source = _Source()
    # Sorted, so that GATEWAY_REDIS (a whole section as JSON) comes before GATEWAY_REDIS__URL, which overrides it.
    for name, value in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in RESERVED or _is_service_link(name, value):
            continue
        path = _path_of(schema, name.removeprefix(PREFIX))
        node = schema.find(path) if path else None
        if path is None or node is None:
            _unknown_variable(schema, name, value, source)
        elif path in source.labels:
            source.problems.append(f"{name}: sets the same setting as {source.labels[path]}")
        else:
            try:
                source.assign(path, _parse(node, value), name)
            except (ValueError, RecursionError):
                shown = _show(value, secret=schema.is_secret(path))
                kind = "array" if node["type"] == "array" else "object"
                source.problems.append(f"{name} = {shown}: expected a JSON {kind}")
    return source


def _path_of(schema: Schema, name: str) -> Path | None:
    """The path that a variable names, ignoring case except in the names of namespaces."""
    path: Path = ()
    node: Node | None = schema.root
    keys = name.split("__")
    while keys:
        if node is None or node["type"] != "object":
            return None
        if "properties" in node:
            key = keys.pop(0).lower()
        else:
            # The name of a namespace may contain two underscores, the option after it never does.
            names, keys = (keys[:-1], keys[-1:]) if len(keys) > 1 else (keys, [])
            key = "__".join(names)
        path = (*path, key)
        node = schema.child(node, key)
    return path


def _parse(node: Node, value: str) -> Any:
    """A list may be given with commas, lists and sections as JSON; pydantic takes the rest as text."""
    if node["type"] == "array" and not _is_json_list(node, value):
        return listed(value)
    if node["type"] not in ("array", "object"):
        return value
    parsed = json.loads(value)
    if not isinstance(parsed, list if node["type"] == "array" else dict):
        raise ValueError("another JSON type")
    return parsed


def _is_json_list(node: Node, value: str) -> bool:
    """An address may begin with a bracket as well: [::1]:8000."""
    is_of_addresses = node["items"].get("format") == "address"
    return bool((_LIST_OF_TEXTS if is_of_addresses else _LIST).match(value))


def _unknown_variable(schema: Schema, name: str, value: str, source: _Source) -> None:
    """A problem if one of our variables seems to be meant, otherwise a warning, without the value."""
    meant = misspellings.meant(schema, name.removeprefix(PREFIX), value)
    hint = f"did you mean {_plain(PREFIX + meant.variable)}?" if meant.variable else "see docs/settings.md"
    if not meant.is_certain:
        hint = "the address is GATEWAY_LISTEN=HOST:PORT" if name in _ADDRESS else hint
        source.warnings.append(f"{_plain(name)} is not a variable of this gateway and is ignored; {hint}")
        return
    secret = meant.path is None or bool(_SECRETIVE.search(name)) or schema.is_secret(meant.path)
    source.problems.append(f"{_plain(name)} = {_show(value, secret=secret)}: unknown variable, {hint}")


def _clashes(environment: _Source, file: _Source) -> Iterator[str]:
    """Variables are often written in capitals; one that makes a namespace CHAT beside chat means the latter."""
    in_variables, in_file = (source.values.get("namespaces") for source in (environment, file))
    there = set(in_file) if isinstance(in_file, dict) else set()
    made = set(in_variables) - there if isinstance(in_variables, dict) else set()
    for name in sorted(made):
        for other in sorted(made | there):
            # Of two that both come from variables, one is named.
            if name.lower() == other.lower() and name != other and (other in there or name < other):
                label = environment.label(("namespaces", name)) or ""
                right = label.replace(f"__{name}", f"__{other}")
                hint = f", did you mean {_plain(right)}?" if right != label else ""
                yield f"{_plain(label)}: makes a namespace {name!r} beside {other!r}; their names keep their case{hint}"


class _Explanation:
    """Turns pydantic's errors into lines that name key, value, source and what is allowed."""

    __slots__ = ("schema", "sources")

    def __init__(self, schema: Schema, sources: list[_Source]) -> None:
        self.schema = schema
        self.sources = sources

    def lines(self, error: ValidationError) -> list[str]:
        return [self._line(each) for each in error.errors(include_url=False)]

    def _line(self, error: ErrorDetails) -> str:
        path = tuple(str(part) for part in error["loc"] if part != "[key]")
        origins = (source.label(self._given(path)) for source in self.sources)
        origin = next((f" ({_plain(label)})" for label in origins if label), "")
        name = self._name(path)
        if error["type"] == "extra_forbidden":
            return self._unknown(path, name, error["input"], origin)
        value = error["input"]
        shown = _url(path, value) or _show(value, secret=self.schema.is_secret(path))
        shown = "" if isinstance(value, dict) else f" = {shown}"
        return f"{name}{shown}{origin}: {self._reason(path, error)}"

    def _given(self, path: Path) -> Path:
        """The path without the index into a list: a list has one origin."""
        return path[:-1] if (self.schema.find(path[:-1]) or {}).get("type") == "array" else path

    def _name(self, path: Path) -> str:
        given = self._given(path)
        return _plain(".".join(given)) + "".join(f"[{index}]" for index in path[len(given) :])

    def _reason(self, path: Path, error: ErrorDetails) -> str:
        if error["type"] == "value_error":
            return error["msg"].removeprefix("Value error, ")
        if error["loc"][-1] == "[key]":
            return f"the name of a namespace must match {error['ctx']['pattern']}"
        if error["input"] == []:
            return f"expected one or more, {self.schema.allowed(path).removeprefix('a list; ')}"
        return f"expected {self.schema.allowed(path)}"

    def _unknown(self, path: Path, name: str, value: Any, origin: str) -> str:
        nearest = self.schema.nearest(path)
        # An unknown value may be a secret under a misspelt name; it is shown only if nothing suggests that.
        secret = nearest is None or self.schema.is_secret(nearest) or bool(_SECRETIVE.search(name))
        hint = "" if nearest is None else f", did you mean {_plain('.'.join(nearest))}?"
        return f"{name} = {_show(value, secret=secret)}{origin}: unknown setting{hint}"


def _url(path: Path, value: Any) -> str:
    """A secret URL for a message, with its login masked; empty if something else in it may be a part of a login."""
    if path not in (("redis", "url"), ("auth", "jwks_url")) or not isinstance(value, str):
        return ""
    _, separator, rest = value.partition("://")
    try:
        if path[0] == "redis":
            # With the right scheme it would be right.
            RedisTarget.of(f"redis://{rest}")
        else:
            urls.split(value)
    except ValueError:
        return ""
    return repr(mask_url(value)) if separator else ""


def _show(value: Any, *, secret: bool = False) -> str:
    """A value for a message: short, without control characters, and masked if it may be a secret."""
    if isinstance(value, dict | list):
        return "a section" if isinstance(value, dict) else "a list" if value else "nothing"
    text = repr(value)
    # A URL with a login, or an attempt at one.
    if secret or ("://" in text and "@" in text):
        return "***"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _plain(name: str) -> str:
    """A key or file name, quoted if it contains characters that do not belong on a terminal."""
    return name if name.isprintable() else repr(name)
