"""The references in docs/, made from the code: `python -m tests.docs.reference` writes them."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import gateway.hooks
from gateway.hooks.hooks import CONCURRENCY, TIMEOUT
from gateway.hooks.questions import Request
from gateway.metrics import Metrics
from tests.docs.pages import DOCS

GROUP = re.compile(r"^ +# (.+)$|^ +self\.(\w+) =", re.M)
OPTIONS = f"timeout: float = {TIMEOUT}, concurrency: int = {CONCURRENCY}"
NOTE = "<!-- written by `python -m tests.docs.reference` -->\n"


def metrics_page() -> str:
    """Markdown: the metrics of a node by the part that counts them."""
    metrics = vars(Metrics())
    text = f"""# Metrics

{NOTE}
Each node answers `GET /metrics` on its internal listener, in the text format of Prometheus. Times are in seconds; what
stands behind "by" is a label. On Linux, the metrics of the process come with them (`process_cpu_seconds_total`, ...).
[Operations](operations.md#metrics) says which of them to watch, and `deploy/prometheus/alerts.yml` has alerts.
"""
    for comment, name in GROUP.findall(inspect.getsource(Metrics.__init__)):
        if comment:
            text += f"\n## {comment.capitalize()}\n\n| metric | type | what it counts |\n| --- | --- | --- |\n"
        else:
            metric = metrics.pop(name)
            family = metric.collect()
            by = f", by `{metric.label}`" if hasattr(metric, "label") else ""
            total = "_total" if family.type == "counter" else ""
            text += f"| `{family.name}{total}` | {family.type}{by} | {_cell(family.documentation)} |\n"
    assert not metrics, "a metric without a place"
    return text


def hooks_page() -> str:
    """Markdown: the public classes of gateway.hooks with their fields."""
    text = f"""# Hooks reference

{NOTE}
All names are in `gateway.hooks`. [Hooks](hooks.md) explains them.

## Hooks

{_docstring(gateway.hooks.Hooks)}

| attribute | meaning |
| --- | --- |
"""
    for name, method in vars(gateway.hooks.Hooks).items():
        if not name.startswith("_"):
            text += f"| `{_call(name, method)}` | {_cell(inspect.getdoc(method) or '')} |\n"
    text += "".join(f"| {names} | {meaning} |\n" for names, meaning in _attributes(gateway.hooks.Hooks))
    for title, ending in (("Requests", "Request"), ("Results", "Result"), ("Events", "Event")):
        text += f"\n## {title}\n"
        if ending == "Request":
            text += _class(Request, "All requests")
        for name in gateway.hooks.__all__:
            if name.endswith(ending):
                text += _class(getattr(gateway.hooks, name))
        if ending == "Result":
            text += _class(gateway.hooks.ServerSubscription)
    return text + "\n## Refusals\n" + _class(gateway.hooks.Denied) + _class(gateway.hooks.Disconnect)


def _class(cls: type, title: str = "") -> str:
    text = f"\n### {title or cls.__name__}\n\n{_docstring(cls)}\n"
    if issubclass(cls, Exception):
        return f"{text}\n`{cls.__name__}{_plain(str(inspect.signature(cls)))}`\n"
    rows = [row for base in _bases(cls) for row in (*_commented(base, ast.AnnAssign), *_members(base))]
    if not rows:
        return text
    return text + "\n| field | meaning |\n| --- | --- |\n" + "".join(f"| {names} | {said} |\n" for names, said in rows)


def _bases(cls: type) -> list[type]:
    """The classes that a reader finds its fields in: what all requests have is told once."""
    ours = [base for base in reversed(cls.__mro__) if base.__module__.startswith("gateway.")]
    return [base for base in ours if base is not Request or cls is Request]


def _attributes(cls: type) -> Iterator[tuple[str, str]]:
    """What the constructor says of public attributes that an application uses."""
    for names, said in _commented(cls, ast.AnnAssign, ast.Assign):
        if "self.state" in names or "self.gateway" in names:
            yield names.split("self.")[0] + re.split(r"[:= ]", names.split("self.")[1])[0] + "`", said


def _commented(cls: type, *kinds: type[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Fields with the comment above them, which may be for several."""
    source = textwrap.dedent(inspect.getsource(cls))
    lines = source.splitlines()
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    body = tree.body if ast.Assign not in kinds else [each for each in ast.walk(tree) if isinstance(each, kinds)]
    names: list[str] = []
    said = ""
    for statement in body:
        if not isinstance(statement, kinds):
            continue
        comment: list[str] = []
        at = statement.lineno - 2
        while lines[at].strip().startswith("#"):
            comment.insert(0, lines[at].strip("# "))
            at -= 1
        if comment and names:
            yield "<br>".join(names), _cell(said)
            names = []
        said = " ".join(comment) or said
        names.append(f"`{_plain(ast.unparse(statement))}`")
    if names:
        yield "<br>".join(names), _cell(said)


def _members(cls: type) -> Iterator[tuple[str, str]]:
    """Public methods and properties of a request."""
    for name, member in vars(cls).items():
        is_public = not name.startswith("_") and (isinstance(member, property) or inspect.isfunction(member))
        if is_public and name not in ("whose", "blamed"):
            yield f"`{_call(name, member)}`", _cell(inspect.getdoc(member) or "")


def _call(name: str, member: Any) -> str:
    if not inspect.isfunction(member):
        return name
    parameters = inspect.signature(member).parameters
    shown = ", ".join(_plain(str(parameters[each])) for each in parameters if each not in ("self", "function"))
    return f"{name}({shown.replace('**options: Any', OPTIONS)})"


def _plain(text: str) -> str:
    """Without what only a type checker needs."""
    text = re.sub(r"collections\.abc\.|typing\.|gateway\.\w+\.", "", text)
    return text.replace("msgspec.UNSET", "UNSET").replace(" -> None", "").replace("|", "\\|")


def _docstring(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {"metrics.md": metrics_page, "hooks-reference.md": hooks_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
