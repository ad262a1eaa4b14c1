"""What a spec judges by is measured, or the run ends before it begins."""

from pathlib import Path

import pytest

from tests.tune_app.factories import make_record, make_records, make_spec, of_older_version
from trainables.errors import ConfigError
from tune_app.ledger.measured import refuse_undefined, refuse_unmeasured

BALANCED = {"balanced_accuracy": "maximize", "size_bytes": "minimize"}


@pytest.mark.parametrize(
    "changes", [{"objectives": {"top5_accuracy": "maximize"}}, {"constraints": ["top5_accuracy >= 0.5"]}]
)
def test_five_classes_have_no_top_five(changes: dict[str, object], tmp_path: Path) -> None:
    spec = make_spec(tmp_path, **changes)
    refuse_undefined(spec, classes=6)
    refuse_undefined(make_spec(tmp_path), classes=2)
    with pytest.raises(ConfigError, match="needs more than 5 classes, but 'digits' has 5: take accuracy or balanced_a"):
        refuse_undefined(spec, classes=5)


@pytest.mark.parametrize("changes", [{"objectives": BALANCED}, {"constraints": ["balanced_accuracy >= 0.5"]}])
def test_results_of_an_older_version_are_not_judged_by_what_came_later(
    changes: dict[str, object], tmp_path: Path
) -> None:
    spec, older = make_spec(tmp_path, **changes), of_older_version(make_records()[1])
    refuse_unmeasured(spec, [make_records()[0], make_record(8, {"w_bits": 2}, state="failed")])
    refuse_unmeasured(make_spec(tmp_path), [older])
    with pytest.raises(ConfigError, match=r"but p30_w4_a8 of 'toy' has no balanced_accuracy, .* Leave balanced_accura"):
        refuse_unmeasured(spec, [make_records()[0], older])
