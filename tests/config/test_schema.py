"""What the schema says of paths that do not exist."""

from gateway.config.schema import Schema
from gateway.config.settings import ServerSettings


def test_an_unknown_path_leads_nowhere() -> None:
    """Below an unknown key there is nothing, nothing secret either."""
    schema = Schema(ServerSettings)
    assert schema.find(("nope", "a", "b")) is None
    assert not schema.is_secret(("nope", "a"))
    assert schema.allowed(("nope",)) == "another type"
