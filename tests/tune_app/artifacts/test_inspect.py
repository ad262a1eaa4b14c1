"""`tune-app inspect` of a file and of a trial."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.trainables.packed_files import packed
from tests.tune_app.real import label_of, make_real_experiment
from trainables.config import FLOAT_BITS
from trainables.export.inspect import inspect_file
from trainables.export.inspect_formulas import INDEX_BITS
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.reading import read_records

Cli = Callable[..., Result]
GOLDEN = Path(__file__).parents[2] / "trainables/golden/side8.mbq"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    return make_real_experiment(tmp_path_factory.mktemp("inspection"))


def cells(text: str, name: str) -> list[str]:
    """The words of the line that begins with a name."""
    return next(line.split() for line in text.splitlines() if line.startswith(f"{name} "))


def test_layers_are_shown_with_their_work_and_their_activations(cli: Cli) -> None:
    out = cli("inspect", GOLDEN).out
    report = inspect_file(GOLDEN.read_bytes())
    last = report.layers[-1]
    numbers = (last.macs, last.bits, last.a_bits, last.bops, last.activation_bytes)
    assert [last.name, *(f"{n:,}" for n in numbers)] in [line.split() for line in out.splitlines()]
    own = report.own
    assert cells(out, "file, bytes")[2:] == ["6,406", "23,348", "3.64x", "24,080", "3.76x"]
    assert cells(out, "weights, bytes")[4::2] == [f"{own.weight_ratio:.2f}x", f"{report.weight_ratio:.2f}x"]
    assert cells(out, "activations of 1 image ")[-3::2] == [f"{n.activation_ratio:.2f}x" for n in (own, report)]
    assert cells(out, "MACs of 1 image")[4:] == ["10,090", "10,090", "1.00x", "10,270", "1.02x"]
    assert cells(out, "BOPs of 1 image")[4:6] == [f"{report.bops:,}", f"{own.fp32_bops:,}"]
    rest = int(cells(out, "between layers")[-1].replace(",", ""))
    assert rest + sum(layer.activation_bytes for layer in report.layers) == report.activations[0].size_bytes


def test_activations_are_those_of_a_batch(cli: Cli) -> None:
    out = cli("inspect", GOLDEN, "--batch", "100").out
    assert "activations of 100 images" in out
    report = inspect_file(GOLDEN.read_bytes(), batch=100)
    for rule in report.activations:
        own = next(a for a in report.own.activations if a.name == rule.name)
        shown = [f"{rule.size_bytes:,}", f"{rule.fp32_bytes:,}", f"{rule.ratio:.2f}x", f"{own.ratio:.2f}x"]
        assert cells(out, rule.name) == [rule.name, *shown, *rule.counts.split()]


def test_formulas_stand_beside_the_real_file(cli: Cli) -> None:
    out = cli("inspect", GOLDEN, "--formulas", "--index-bits", "5").out
    report = inspect_file(GOLDEN.read_bytes(), index_bits=5)
    for formula in report.formulas:
        assert cells(out, formula.name)[1:3] == [f"{formula.size_bytes:,}", f"{formula.compression_ratio:.2f}x"]
    assert cells(out, "this file")[2] == f"{GOLDEN.stat().st_size:,}"
    assert "after rounding" in out
    wide = [line for line in out.splitlines() if len(line) > 80 and not line.startswith(str(GOLDEN))]
    assert not wide


def test_the_terms_of_a_formula_stand_below_it(cli: Cli) -> None:
    lines = [line.split() for line in cli("inspect", GOLDEN, "--formulas", "--index-bits", "5").out.splitlines()]
    report = inspect_file(GOLDEN.read_bytes(), index_bits=5)
    for formula in report.formulas:
        assert formula.size_bytes == int(sum(term.size_bytes for term in formula.terms))
        place = next(i for i, words in enumerate(lines) if words[:1] == [formula.name])
        for term, words in zip(formula.terms, lines[place + 1 :], strict=False):
            bits = "–" if term.bits is None else str(term.bits)
            assert words == [*term.what.split(), f"{term.size_bytes:,.0f}", f"{term.count:,}", bits]
    filled = next(f for f in inspect_file(GOLDEN.read_bytes()).formulas if f.name == "nonzero_fillers_norm").terms
    assert [t.what for t in filled] == [
        *("non-zero values", "filler zeros", "indices", "scales of channels", "scales of layers"),
        "batch norm statistics",
    ]
    assert next(t.bits for t in filled if t.what == "indices") == 3
    place = next(i for i, words in enumerate(lines) if words[:2] == ["this", "file"])
    parts = [[name, f"{size:,}"] for name, size in report.breakdown.items()]
    assert lines[place + 1 :][: len(parts)] == parts


def test_float_activations_are_counted_as_if_they_were_quantized(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "float.mbq"
    file.write_bytes(packed("vgg16", w_bits=4, a_bits=FLOAT_BITS)[1])
    out = cli("inspect", file, "--a-bits", "4").out
    assert "activations are float; they count as if they had 4 bits" in out
    found = json.loads(cli("inspect", file, "--a-bits", "4", "--json").out)
    assert found == json.loads(inspect_file(file.read_bytes(), a_bits=4).model_dump_json())
    assert (found["assumed_a_bits"], found["size_bytes"]) == (4, file.stat().st_size)
    assert "as if" not in cli("inspect", file).out
    for refused_file, bits, says in (
        (GOLDEN, 8, "the activations are quantized to 4 bits, not float: leave out the 8 bits to assume"),
        (file, 9, "9 bits of activations: bits must be one of 1, 2, 3"),
    ):
        refused = cli("inspect", refused_file, "--a-bits", str(bits))
        assert refused.code == 2
        assert re.fullmatch(rf"error: .*{says}.*\n", refused.err)


def test_json_holds_everything_at_once(cli: Cli) -> None:
    found = json.loads(cli("inspect", GOLDEN, "--json", "--batch", "3").out)
    assert found == json.loads(inspect_file(GOLDEN.read_bytes(), batch=3).model_dump_json())
    assert {f["name"] for f in found["formulas"]} >= {"nonzero_fillers", "huffman"}


def test_a_trial_is_inspected_by_its_label(folder: ExperimentFolder, cli: Cli) -> None:
    [record] = read_records(folder)
    label = label_of(folder)
    result = cli("inspect", folder.path, label)
    assert (result.code, result.err) == (0, "")
    assert f"\n{label}: vgg16" in result.out
    found, metrics = json.loads(cli("inspect", folder.path, label, "--json").out), record.metrics()
    for column in ("size_bytes", "macs", "bops", "compression_ratio"):
        assert found[column] == metrics[column]
    assert found["activations"][0]["size_bytes"] == metrics["activation_bytes"]
    assert found["activations"][1]["size_bytes"] == metrics["peak_activation_bytes"]


def test_formulas_that_do_not_count_zeros_are_the_columns_of_the_trial(folder: ExperimentFolder, cli: Cli) -> None:
    [record] = read_records(folder)
    assert record.result is not None
    measured = record.result.measurement.formula_bytes  # type: ignore[union-attr]
    found = json.loads(cli("inspect", folder.path, label_of(folder), "--json").out)["formulas"]
    by_column = {f["column"]: f["size_bytes"] for f in found if f["column"]}
    assert by_column.keys() == measured.keys()
    for name in ("a", "c", "d"):
        assert by_column[name] == measured[name]
    assert by_column["b"] <= measured["b"], "rounding makes zeros"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{exp}"], "is an experiment: name one of its trials too"),
        (["{exp}", "p99_w9"], "no trial of"),
        (["none.mbq"], "cannot read"),
        (["{exp}/artifacts", "p0"], "is no experiment"),
    ],
)
def test_what_is_neither_a_file_nor_a_trial_is_refused(
    arguments: list[str], says: str, folder: ExperimentFolder, cli: Cli
) -> None:
    result = cli("inspect", *(a.format(exp=folder.path) for a in arguments))
    assert result.code == 2
    assert re.fullmatch(rf"error: .*{says}.*\n", result.err)


def test_the_default_index_is_the_one_of_the_columns(cli: Cli) -> None:
    default, explicit = (cli("inspect", GOLDEN, "--formulas", *more).out for more in ((), ("--index-bits", INDEX_BITS)))
    assert default == explicit
