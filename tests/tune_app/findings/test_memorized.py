"""An imported baseline that knows the validation images is told."""

from pathlib import Path

import numpy as np
import pytest

from tests.tune_app.factories import make_baseline_info, make_spec
from trainables.config import BaselineImport
from trainables.data.data_sets import load_data
from tune_app.engine import baseline as engine
from tune_app.findings.memorized import memorized_finding
from tune_app.findings.summary import findings_of
from tune_app.ledger.baseline import BaselineInfo


def info(accuracy: float, outside: float | None, n: int = 2_000) -> BaselineInfo:
    return make_baseline_info(accuracy).model_copy(update={"accuracy_outside": outside, "n_outside": n, "n": 4_500})


@pytest.mark.parametrize(
    ("accuracy", "outside", "told"),
    [
        (0.998, 0.917, True),  # a published ResNet-20 for CIFAR-10
        (0.93, 0.917, False),  # 1.3 points are less than three standard errors of 0.72 points
        (0.94, 0.917, True),
        (0.90, 0.99, False),
        (1.0, 1.0, False),
        (1.0, None, False),
    ],
)
def test_more_than_three_standard_errors_are_told(accuracy: float, outside: float | None, told: bool) -> None:
    found = memorized_finding(info(accuracy, outside))
    assert (found is not None) == told
    if found is not None:
        assert "\n" not in found.text
        assert f"{100 * accuracy:.2f} % on the validation images" in found.text
        assert "91.70 % on 2,000 test images" in found.text
        assert "data.validation: {from: test, fraction: 0.5}" in found.text


def test_the_summary_says_it_without_a_point(tmp_path: Path) -> None:
    assert [found.kind for found in findings_of([], [], make_spec(tmp_path), info(0.998, 0.917))] == ["memorized"]


@pytest.mark.parametrize(
    ("kind", "source", "measured"), [("import", "train", True), ("import", "test", False), ("train", "train", False)]
)
def test_an_imported_network_is_tried_on_test_images_where_training_images_validate(
    kind: str, source: str, measured: bool, tmp_path: Path
) -> None:
    from tests.trainables.factories import make_architecture
    from trainables.models.model import build
    from tune_app.engine.trial import workplace_of

    spec = make_spec(tmp_path)
    data = spec.base.data.model_copy(
        update={"image_size": 8, "validation": spec.base.data.validation.model_copy(update={"source": source})}
    )
    changes: dict[str, object] = {"data": data}
    if kind == "import":
        changes["baseline"] = BaselineImport(kind="import", checkpoint="net.safetensors")
    spec = spec.model_copy(update={"base": spec.base.model_copy(update=changes)})
    loaded = load_data(data)
    found = engine._outside(spec, build(make_architecture()), workplace_of(spec, loaded))
    assert bool(found) == measured
    if measured:
        assert found["n_outside"] == 360
        assert 0 <= found["accuracy_outside"] <= 1
        assert np.isclose(found["accuracy_outside"] * 360, round(found["accuracy_outside"] * 360))
