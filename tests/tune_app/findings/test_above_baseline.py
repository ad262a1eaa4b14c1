"""Points that beat an imported baseline by more than chance say that its import may be wrong."""

from pathlib import Path
from typing import Any

import pytest

from tests.tune_app.factories import make_baseline_info, make_spec
from tests.tune_app.findings.test_findings import PARAMETERS, row
from trainables.config import BaselineImport
from tune_app.findings.above_baseline import above_finding
from tune_app.findings.summary import findings_of
from tune_app.findings.tried import tried


def rows(*accuracies: float | None) -> list[dict[str, Any]]:
    return [row({"w_bits": 2 + i}, accuracy, 1_000 * i) for i, accuracy in enumerate(accuracies)]


@pytest.mark.parametrize(
    ("baseline", "accuracies", "above"),
    [
        (0.70, (0.85, 0.84, 0.60, None), 2),  # of 179 images three standard errors of the two are 13 pp here
        (0.70, (0.82, 0.70), 0),
        (1.0, (1.0, 0.9), 0),
        (0.0, (0.0, None), 0),
    ],
)
def test_more_than_three_standard_errors_are_told(
    baseline: float, accuracies: tuple[float | None, ...], above: int
) -> None:
    found = above_finding(tried(rows(*accuracies), PARAMETERS), make_baseline_info(baseline))
    assert (0 if found is None else found.facts["points"]) == above
    if found is not None:
        assert found.text.startswith(
            "2 points of 4 beat the imported baseline by more than 3 standard errors (best: w_bits2, 85.00 %, the "
            "baseline 70.00 %): the import may be wrong;"
        )
        assert found.facts["accuracy_change"] == pytest.approx(0.15)


def test_only_an_imported_baseline_is_doubted(tmp_path: Path) -> None:
    trained = make_spec(tmp_path)
    import_ = BaselineImport(kind="import", checkpoint="net.safetensors")
    imported = trained.model_copy(update={"base": trained.base.model_copy(update={"baseline": import_})})
    kinds = [
        {finding.kind for finding in findings_of(rows(0.9), PARAMETERS, spec, make_baseline_info(0.7))}
        for spec in (trained, imported)
    ]
    assert kinds == [set(), {"above_baseline"}]
