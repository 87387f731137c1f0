"""What the Autobahn suite wrote about each case, and whether a server may behave so."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

# NON-STRICT: another behaviour than the suite's first choice, which the RFC allows.
ALLOWED = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})

# The suite's `index.json`: by server, by case.
Index = Mapping[str, Mapping[str, Mapping[str, Any]]]


class Report:
    """The verdicts of one run over these servers; a server that has not `cases` of them was not looked at whole."""

    def __init__(self, index: Index, *, servers: tuple[str, ...], cases: int) -> None:
        self._index = index
        self._servers = servers
        self._cases = cases

    @property
    def passed(self) -> bool:
        """Every case ran at every server, and ended with an allowed answer and an allowed close."""
        return all(
            len(self._of(server)) == self._cases and ALLOWED.issuperset(self._verdicts(server))
            for server in self._servers
        )

    def lines(self) -> Iterator[str]:
        """For each server the counts, and each case that is not OK."""
        for server in self._servers:
            found = self._of(server)
            counts = Counter(_worst(case) for case in found.values())
            shown = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
            yield f"{server}: {len(found)} of {self._cases} cases: {shown or 'none ran'}"
            for name, case in found.items():
                if _worst(case) != "OK":
                    yield f"  {name}: {case['behavior']}, close {case['behaviorClose']}"

    def _of(self, server: str) -> Mapping[str, Mapping[str, Any]]:
        return self._index.get(server, {})

    def _verdicts(self, server: str) -> Iterator[str]:
        return (verdict for case in self._of(server).values() for verdict in (case["behavior"], case["behaviorClose"]))


def _worst(case: Mapping[str, Any]) -> str:
    """The verdict that a case counts as: of its answers unless they are fine and its close is not."""
    answers, close = str(case["behavior"]), str(case["behaviorClose"])
    return close if answers in ALLOWED and (close not in ALLOWED or answers == "OK") else answers
