"""The codes of errors and closes, against what the protocol's text says of them."""

import re
from pathlib import Path

from gateway import errors
from gateway.errors import CloseCode, ErrorCode
from tests.reconnection import reconnects

_TEXT = (Path(__file__).resolve().parents[1] / "docs" / "protocol.md").read_text()
# The numbers in the first cell of a row, and its last cell.
_ROW = re.compile(r"^\| (\d+(?:, \d+)*) \| .*?(?:\| (yes|no) )?\|$", re.MULTILINE)


def documented(*, closes: bool) -> dict[int, bool]:
    """By code whether SDKs reconnect; False for the errors in replies."""
    rows = ((codes.split(", "), last) for codes, last in _ROW.findall(_TEXT) if bool(last) is closes)
    return {int(code): last == "yes" for codes, last in rows for code in codes}


def test_every_close_code_is_documented_with_whether_clients_come_back() -> None:
    codes = {value.code: reconnects(value) for value in vars(errors).values() if isinstance(value, CloseCode)}
    assert codes == documented(closes=True)


def test_every_error_code_is_documented() -> None:
    codes = {value.code for value in vars(errors).values() if isinstance(value, ErrorCode)}
    assert codes == documented(closes=False).keys()
