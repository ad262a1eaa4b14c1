"""An experiment keeps its base, and the command says which key of the spec differs."""

from pathlib import Path
from typing import Any

import pytest

from tests.tune_app.factories import make_experiment, make_spec
from trainables.config import DataConfig
from trainables.errors import ConfigError


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"validation": {"fraction": 0.2}}, "base.data.validation.fraction is 0.1 there and 0.2 here"),
        ({"validation": {"from": "test"}}, "base.data.validation.from is train there and test here"),
        ({"images": 100}, "base.data.images is null there and 100 here"),
    ],
)
def test_another_base_is_refused_by_the_key_of_the_spec(data: dict[str, Any], expected: str, tmp_path: Path) -> None:
    folder, base = make_experiment(tmp_path), make_spec(tmp_path).base
    other = base.model_copy(update={"data": DataConfig.model_validate(data)})
    with pytest.raises(ConfigError) as caught:
        folder.claim(make_spec(tmp_path, base=other))
    assert expected in str(caught.value)
    assert folder.claim(make_spec(tmp_path)) == []
