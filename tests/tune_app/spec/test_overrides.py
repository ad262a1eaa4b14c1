"""Parts of a spec from a command line."""

import pytest

from trainables.errors import ConfigError
from tune_app.spec.overrides import read_point, with_settings

CONTENT = {"name": "x", "budget": {"trials": 3}, "space": "uniform"}


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ([], {}),
        (["name=y"], {"name": "y"}),
        (["name=a=b"], {"name": "a=b"}),
        (["budget.trials=5", "budget.wall_s=60.5"], {"budget": {"trials": 5, "wall_s": 60.5}}),
        (["base.quantize.schedule.epochs=20"], {"base": {"quantize": {"schedule": {"epochs": 20}}}}),
        (["space={w_bits: [2, 4]}", "space.a_bits=[8]"], {"space": {"w_bits": [2, 4], "a_bits": [8]}}),
        (["repeats=null", "constraints=accuracy >= 0.9"], {"repeats": None, "constraints": "accuracy >= 0.9"}),
        (["budget.trials=5", "budget.trials=6"], {"budget": {"trials": 6}}),
    ],
)
def test_a_setting_takes_the_place_of_a_key(settings: list[str], changed: dict[str, object]) -> None:
    before = {key: dict(value) if isinstance(value, dict) else value for key, value in CONTENT.items()}
    assert with_settings(CONTENT, settings) == {**CONTENT, **changed}
    assert before == CONTENT


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("budget", "--set takes budget.trials=30, but got 'budget'."),
        ("=3", "--set takes budget.trials=30, but got '=3'."),
        ("budget..trials=3", "--set takes budget.trials=30"),
        ("space.w_bits=[2]", "--set space.w_bits: space is 'uniform' in the spec, no mapping: set space itself."),
        ("name=[1", r"--set name: '\[1' is not readable as YAML"),
        ("name=!!int x", "--set name: '!!int x' is not readable as YAML"),
    ],
)
def test_a_setting_that_is_none_is_refused(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        with_settings(CONTENT, [setting])


def test_a_point_is_read_as_it_is_written() -> None:
    assert read_point("prune_frac=0.3, w_bits=4,importance=l2") == {"prune_frac": 0.3, "w_bits": 4, "importance": "l2"}


def test_a_point_may_have_units() -> None:
    assert read_point("prune_frac=30 %, budget_bytes=20KB") == {"prune_frac": 0.3, "budget_bytes": 20_000}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--point takes w_bits=4,a_bits=8, but got ''."),
        ("w_bits", "--point takes w_bits=4,a_bits=8, but got 'w_bits'."),
        ("w_bits=4,", "--point takes w_bits=4,a_bits=8, but got ''."),
        ("w_bits=", "--point: w_bits is a number or text, but got 'w_bits='"),
        ("w_bits=true", "--point: w_bits is a number or text, but got 'w_bits=true': write w_bits=4."),
        ("w_bits=4,w_bits=8", "--point: w_bits stands twice: keep one."),
    ],
)
def test_a_point_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_point(text)
