"""The errors of Engine.IO's HTTP requests."""

import json

import pytest

from gateway.protocols.socketio import engineio_errors
from gateway.protocols.socketio.engineio_errors import EngineError, error_body

ERRORS = [error for error in vars(engineio_errors).values() if isinstance(error, EngineError)]


def test_each_error_has_a_number_of_its_own() -> None:
    """Clients of the reference know 0 to 5."""
    assert sorted(error.code for error in ERRORS) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.message)
def test_the_answer_is_what_the_reference_answers(error: EngineError) -> None:
    assert json.loads(error_body(error)) == {"code": error.code, "message": error.message}
    assert error.status == (403 if error.message == "Forbidden" else 400)
