"""The table in docs/settings.md, made from the settings themselves: `python -m tests.settings_table` writes it."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr

from gateway.config.fields import Section
from gateway.config.settings import NamespaceSettings, ServerSettings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
START = "<!-- settings: written by `python -m tests.settings_table` -->\n"
END = "<!-- /settings -->\n"

# `channels` and namespaces.NAME have the same options: one row shows both names.
_NAMES = {"channels": "channels.{0}`, `namespaces.NAME.{0}"}


def settings_table() -> str:
    """Markdown."""
    rows = "".join(f"| `{name}` | {default} | {text} |\n" for name, default, text in _rows(ServerSettings, ""))
    return f"| setting | default | what it does |\n| --- | --- | --- |\n{rows}"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, NamespaceSettings):
            for option, each in NamespaceSettings.model_fields.items():
                yield _NAMES[name].format(option), _shown(each.get_default()), _text(each.description)
        elif isinstance(default, Section):
            yield from _rows(type(default), f"{prefix}{name}.")
        elif name != "namespaces":
            yield prefix + name, _shown(default), _text(field.description)


def _shown(default: object) -> str:
    if default is None or default == () or default == "":
        return ""
    assert not isinstance(default, SecretStr)
    if isinstance(default, tuple):
        return f"`{', '.join(default)}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _text(description: str | None) -> str:
    assert description, "every setting has a description"
    return description.replace("|", "\\|").replace("<", "&lt;")


def with_table(page: str) -> str:
    """The page with a fresh table."""
    before, _, rest = page.partition(START)
    _, end, after = rest.partition(END)
    assert end, "the page has no place for the table"
    return before + START + settings_table() + END + after


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
