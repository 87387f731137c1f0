"""Scenario files."""

from pathlib import Path

import pytest

from gateway_loadtest.planning.plan import StagePlan, UsageError
from gateway_loadtest.planning.scenarios import of_file

GIVEN = {"scenario": "mix", "targets": ("ws://a",), "seed": 5}


def test_a_file_sets_the_load_and_the_stages(tmp_path: Path) -> None:
    path = tmp_path / "mix.toml"
    path.write_text(
        'channels = 4\nmembers = 2\nrate = 3.0\n[[stages]]\nname = "calm"\nseconds = 5\n'
        '[[stages]]\nname = "storm"\nseconds = 1.5\ndrop = 0.5\nrate = 10\ncommands = ["true"]\n'
    )
    plan = of_file(path, GIVEN)
    assert (plan.channels, plan.members, plan.rate, plan.seed) == (4, 2, 3.0, 5)
    assert plan.stages == (StagePlan("calm", 5), StagePlan("storm", 1.5, rate=10, drop=0.5, commands=("true",)))
    assert plan.rate_of(plan.stages[1]) == 10
    # What was said on the command line counts.
    plan = of_file(path, {**GIVEN, "seed": 9}, {"seed"})
    assert (plan.seed, plan.channels) == (9, 4)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("channels =", "Invalid value"),
        ("channels = 1", "missing required field `stages`"),
        ("chanels = 1\n[[stages]]\nname='a'\nseconds=1", "unknown field `chanels`"),
        ("[[stages]]\nname='a'\nsecond=1", "unknown field `second`"),
        ("[[stages]]\nname='a'\nseconds='1'", r"Expected `float`, got `str` - at `\$.stages\[0\].seconds`"),
        ("[[stages]]\nname='a'\nseconds=1", "at least one connection"),
    ],
)
def test_a_wrong_file_is_said_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mix.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint):
        of_file(path, GIVEN)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        of_file(tmp_path / "none.toml", GIVEN)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="decode"):
        of_file(tmp_path / "binary.toml", GIVEN)
