"""Classes with very different counts of images are told."""

from pathlib import Path

import pytest

from tests.specs import write_spec
from tests.tune_app.factories import make_baseline_info, make_experiment, make_spec
from trainables.storage import replace
from tune_app.findings.of_baseline import findings_of_baseline
from tune_app.findings.summary import findings_of, summarize
from tune_app.findings.unbalanced import unbalanced_finding
from tune_app.ledger.baseline import BaselineInfo, ClassImages


def info(smallest: int, largest: int) -> BaselineInfo:
    classes = {"smallest_class": ClassImages(name="lynx", images=smallest)}
    classes |= {"largest_class": ClassImages(name="cat", images=largest)}
    return make_baseline_info().model_copy(update=classes)


@pytest.mark.parametrize(("smallest", "largest", "told"), [(300, 1199, False), (300, 1200, True), (0, 1, True)])
def test_four_times_the_images_are_told(smallest: int, largest: int, told: bool) -> None:
    found = unbalanced_finding(info(smallest, largest))
    assert (found is not None) == told
    if found is not None:
        assert "\n" not in found.text
        assert f"from {smallest:,} (lynx) to {largest:,} (cat)" in found.text
        assert "balanced_accuracy and macro_f1 count each class alike" in found.text
        assert found.document()["smallest"] == {"name": "lynx", "images": smallest}


def test_a_baseline_of_an_older_version_says_nothing() -> None:
    assert unbalanced_finding(make_baseline_info()) is None


def test_the_summary_says_it_without_a_point_and_the_command_beside_the_baseline(tmp_path: Path, cli) -> None:
    assert [found.kind for found in findings_of([], [], make_spec(tmp_path), info(10, 50))] == ["unbalanced"]
    memorized = info(10, 50).model_copy(update={"accuracy_outside": 0.5, "n_outside": 2_000})
    assert [found.kind for found in findings_of_baseline(memorized)] == ["memorized", "unbalanced"]
    folder = make_experiment(tmp_path)
    replace(folder.baseline_file, info(10, 50).model_dump_json().encode())
    assert "from 10 (lynx) to 50 (cat)" in "\n".join(summarize(folder).lines())
    told = cli("baseline", write_spec(tmp_path / "spec.yaml", folder.read_spec())).out
    assert "from 10 (lynx) to 50 (cat)" in told
