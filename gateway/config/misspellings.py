"""Which setting is meant by a variable that names none."""

import difflib
import re
from collections.abc import Mapping
from typing import NamedTuple

from gateway.config.schema import Path, Schema

# From this ratio of common letters on (difflib), a name counts as a misspelling: LISTNE for LISTEN has 0.83.
SIMILAR = 0.8
# Of each word, if the names have equally many: POD_NAME is no NODE_NAME. If not, of the names without underscores.
_SIMILAR_WORD = 0.6
_SIMILAR_LETTERS = 0.9
# From this one on, it is worth a question.
ALIKE = 0.7
# Letters that a word has to share with the one it abbreviates.
_ABBREVIATED = 3
_NAMESPACES = "NAMESPACES"
_NAMESPACE_PATH: Path = ("namespaces", "any")
_FIRST_WORD = re.compile(r"([A-Za-z]+)(_+)(.+)", re.DOTALL)


class Meant(NamedTuple):
    """What a variable seems to mean; both names are without GATEWAY_."""

    # Empty when it resembles nothing.
    variable: str
    # None when it is not known.
    path: Path | None
    # Whether the operator believes a setting of ours set, so that the start has to stop.
    is_certain: bool


def meant(schema: Schema, name: str, value: str) -> Meant:
    """`name`: of an unknown variable, without GATEWAY_."""
    found = _in_namespaces(schema, name) or _setting(schema, name.upper())
    if found.path and (schema.find(found.path) or {}).get("type") == "object" and not value.lstrip().startswith("{"):
        # NAMESPACE and ORIGIN are names that others choose too. Whoever means a section gives JSON.
        return found._replace(is_certain=False)
    return found


def _in_namespaces(schema: Schema, name: str) -> Meant | None:
    """GATEWAY_NAMESPACE__chat__DELIVERY, GATEWAY_NAMESPACES_chat_DELIVERY."""
    parts = _FIRST_WORD.fullmatch(name)
    if parts is None or not difflib.get_close_matches(parts[1].upper(), [_NAMESPACES], cutoff=SIMILAR):
        return None
    word, separator, rest = parts.groups()
    known = {each.upper(): each for each in (schema.find(_NAMESPACE_PATH) or {}).get("properties", ())}
    option = max((each for each in known if rest.upper().endswith(f"_{each}")), key=len, default="")
    if option:
        namespace = rest[: -len(option)].rstrip("_")
    elif separator == "__" and "__" in rest:
        namespace, _, given = rest.rpartition("__")
        option = next(iter(difflib.get_close_matches(given.upper(), known, n=1)), "")
    else:
        # A whole one, as JSON; with a single underscore it may be anything.
        return Meant(f"{_NAMESPACES}__{rest}", None, True) if separator == "__" else None
    path = (*_NAMESPACE_PATH, known[option]) if option else None
    # NAMESPACE_LABEL_PRESENCE may be about a namespace of Kubernetes.
    is_foreign = separator == "_" and name.isupper() and word == "NAMESPACE"
    return Meant(f"{_NAMESPACES}__{namespace or 'NAME'}__{option or 'OPTION'}", path, not is_foreign)


def _setting(schema: Schema, key: str) -> Meant:
    names = {"__".join(path).upper(): path for path in schema.paths()}
    # GATEWAY_ISSUER for GATEWAY_AUTH__ISSUER: the end of a name, too, means a setting, which may be one that protects.
    similar = difflib.get_close_matches(key, names, cutoff=SIMILAR)
    certain = [each for each in similar if _is_misspelt(each, key)] or [
        each for each in names if each.endswith(f"__{key}") or _has_words(each, key)
    ]
    section, separator, _ = key.partition("__")
    sections = [path[0].upper() for path in names.values() if len(path) > 1]
    in_section = bool(separator and difflib.get_close_matches(section, sections, n=1, cutoff=SIMILAR))
    close = certain or difflib.get_close_matches(key, _values(schema, names), n=1, cutoff=ALIKE)
    is_certain = bool(certain) or in_section
    return Meant(close[0], names[close[0]], is_certain) if close else Meant("", None, is_certain)


def _values(schema: Schema, names: Mapping[str, Path]) -> list[str]:
    """Without sections, and without switches: a guess must not lead to one that opens the gateway."""
    nodes = {each: schema.find(path) or {} for each, path in names.items()}
    return [each for each, node in nodes.items() if node.get("type") not in ("object", "boolean")]


def _is_misspelt(name: str, key: str) -> bool:
    words, given = (list(filter(None, each.split("_"))) for each in (name, key))
    if len(words) == len(given):
        return all(_ratio(*pair) >= _SIMILAR_WORD for pair in zip(words, given, strict=True))
    return _ratio("".join(words), "".join(given)) >= _SIMILAR_LETTERS


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _has_words(name: str, key: str) -> bool:
    """Whether the key has the words of the name, several in any order, perhaps abbreviated.

    TLS_CERT has those of TLS__CERTIFICATE, ALLOWED_ORIGINS those of ORIGINS__ALLOWED.
    """
    words, given = (sorted(filter(None, each.split("_"))) for each in (name, key))
    return 1 < len(words) == len(given) and all(
        word.startswith(each) and len(each) >= min(_ABBREVIATED, len(word))
        for word, each in zip(words, given, strict=True)
    )
