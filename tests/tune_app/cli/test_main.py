"""Bad input: one line, the right exit code, nothing written."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from tests.conftest import Result
from tests.specs import tiny_spec, write_spec
from tests.tune_app.factories import make_experiment
from tune_app.cli.search import demo_spec
from tune_app.errors import LeaseHeld, SearchAborted
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec
from tune_app.terminal.progress import Verbosity, set_verbosity, verbosity

Cli = Callable[..., Result]


def one_line(result: Result) -> str:
    """The error line, with nothing around it."""
    assert "Traceback" not in result.err
    [line] = result.err.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("fidelity: null", "samplr: tpe", ["unknown key 'samplr'", "did you mean 'sampler'"]),
        (
            "fidelity: null",
            "sampler: tpee",
            ["unknown sampler 'tpee'", "grid", "nsga2", "random", "shuffled_grid", "tpe"],
        ),
        ("name: digits", "name: digitz", ["unknown data set 'digitz'", "cifar10", "digits"]),
        ("name: mobilenet_v2", "name: mobilenet", ["unknown model 'mobilenet'", "mobilenet_v2", "vgg16"]),
        ("high: 0.75", "high: 1.5", ["prune_frac", "1.0", "must be less than 1"]),
        ("w_bits: [2, 3, 4, 6, 8]", "w_bits: [0]", ["w_bits: 0", "bits must be one of 1, 2, 3,"]),
        ("w_bits: [2, 3, 4, 6, 8]", "w_bits: [64]", ["w_bits: 64", "bits must be one of 1, 2, 3,"]),
        ("w_bits: [2, 3, 4, 6, 8]", "w_bits: [1.5]", ["w_bits", "1.5", "must be a whole number"]),
        ("w_bits: [2, 3, 4, 6, 8]", "w_bits: []", ["w_bits", "must not be empty"]),
        ("trials: 18", "trials: 0", ["budget.trials", "must be at least 1"]),
        ("cpu: 1", "cpu: 0", ["resources.cpu", "must be more than 0"]),
        ("accuracy: maximize", "acuracy: maximize", ["unknown metric 'acuracy'", "did you mean 'accuracy'"]),
        ("accuracy: maximize", "accuracy: biggest", ["objectives.accuracy", "maximize"]),
        ("lr: 0.05", "lr: -1", ["base.baseline", "lr", "must be more than 0"]),
        ("kind: qat", "kind: qatt", ["base.quantize", "'ptq', 'qat'"]),
    ],
)
def test_a_bad_spec_names_the_rule_and_the_value(
    old: str, new: str, words: list[str], cli: Cli, tmp_path: Path
) -> None:
    text = demo_spec().replace("storage: runs", f"storage: {tmp_path / 'runs'}")
    assert old in text
    (tmp_path / "spec.yaml").write_text(text.replace(old, new, 1))
    result = cli("run", tmp_path / "spec.yaml")
    line = one_line(result)
    assert result.code == 2
    assert all(word in line for word in words), line
    assert [p.name for p in tmp_path.iterdir()] == ["spec.yaml"]


def test_a_missing_spec(cli: Cli, tmp_path: Path) -> None:
    for command in ("run", "baseline"):
        result = cli(command, tmp_path / "none.yaml")
        assert result.code == 2
        assert "none.yaml" in one_line(result)


@pytest.mark.parametrize("value", ["0", "-1", "abc", "1.5"])
def test_a_bad_number_of_trials(value: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("run", write_spec(tmp_path / "spec.yaml", tiny_spec(tmp_path / "runs")), "--trials", value)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert not (tmp_path / "runs").exists()


def test_a_budget_above_the_limit_is_refused_from_the_command_line_too(cli: Cli, tmp_path: Path) -> None:
    result = cli("run", write_spec(tmp_path / "spec.yaml", tiny_spec(tmp_path / "runs")), "--trials", "1000000000")
    assert result.code == 2
    assert "1000000" in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["frontier", "finalize", "plot"])
def test_a_folder_that_is_no_experiment(command: str, cli: Cli, tmp_path: Path) -> None:
    result = cli(command, tmp_path)
    assert result.code == 2
    assert "is no experiment" in one_line(result)
    assert list(tmp_path.iterdir()) == []


def test_a_spec_is_validated_without_data_or_network(cli: Cli, tmp_path: Path) -> None:
    content = tiny_spec(tmp_path / "runs").model_dump(mode="json")
    content["base"]["data"] |= {"name": "cifar10", "root": "/nowhere", "image_size": 32}
    schedule = content["base"]["baseline"]["schedule"]
    content["base"]["baseline"] = {"kind": "train", "network": "no_such_module:Net", "schedule": schedule}
    spec = write_spec(tmp_path / "spec.yaml", ExperimentSpec.model_validate(content))
    done = cli("validate", spec)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{spec}: tiny is well; 6 points of prune_frac, w_bits, a_bits, 6 trials\n"
    spec.write_text(spec.read_text().replace("trials: 6", "trials: true"))
    assert "budget: trials must be a number" in one_line(cli("validate", spec))
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_a_spec_comes_from_standard_input(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write_spec(tmp_path / "spec.yaml", tiny_spec(tmp_path / "runs"))
    for content, code in ((spec.read_bytes(), 0), (b"a: b", 2)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        done = cli("validate", "-")
        words = "-: tiny is well" if code == 0 else "error: -: "
        assert (done.code, (done.out + done.err).startswith(words)) == (code, True)


def test_the_version_and_short_help(cli: Cli) -> None:
    assert cli("--version").out == f"tune-app {version('tune-app')}\n"
    for words in ([], ["frontier"], ["jobs", "list"]):
        short, long = cli(*words, "-h"), cli(*words, "--help")
        assert (short.code, short.out) == (0, long.out)


@pytest.mark.parametrize("words", [["-q"], ["--quiet"], ["-v"], ["--verbose"]], ids=str)
def test_verbosity_stands_before_or_after_a_command(words: list[str], cli: Cli, tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "spec.yaml", tiny_spec(tmp_path / "runs"))
    for order in ([*words, "validate", spec], ["validate", *words, spec], ["validate", spec, *words]):
        set_verbosity(Verbosity.NORMAL)
        assert cli(*order).code == 0
        assert verbosity() is (Verbosity.QUIET if "q" in words[0] else Verbosity.DETAILED)
    set_verbosity(Verbosity.QUIET)


def test_what_an_option_is_given_is_no_verbosity(cli: Cli, tmp_path: Path) -> None:
    assert "but got '-v'" in one_line(cli("frontier", make_experiment(tmp_path).path, "--parquet", "-v"))
    assert verbosity() is Verbosity.NORMAL
    cli("frontier", tmp_path, "--sort", "--", "-q", "--", "-v")
    assert verbosity() is Verbosity.QUIET


def test_a_folder_that_is_not_there_is_called_so(cli: Cli, tmp_path: Path) -> None:
    result = cli("summary", tmp_path / "none")
    assert (result.code, "none does not exist: give the folder" in one_line(result)) == (2, True)


def test_a_demo_beside_a_foreign_spec_names_the_file_and_a_way_out(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text("a: b\n")
    result = cli("demo", "--folder", tmp_path)
    assert result.code == 2
    assert "demo.yaml: name is missing: add it. It was there before: mend or remove it" in one_line(result)
    assert (tmp_path / "demo.yaml").read_text() == "a: b\n"


def test_the_experiments_below_a_folder_are_named(cli: Cli, tmp_path: Path) -> None:
    make_experiment(tmp_path)
    assert "it holds experiments: toy" in one_line(cli("frontier", tmp_path))


@pytest.mark.parametrize("where", ["accuracy >", "acuracy > 0.9", "1=1; DROP TABLE trials", "accuracy > 'x' || 1"])
def test_a_filter_that_is_none(where: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("frontier", make_experiment(tmp_path).path, "--where", where)
    assert result.code == 2
    assert "condition" in one_line(result)


def test_an_unknown_trial_names_the_known_ones(cli: Cli, tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    result = cli("export", folder.path, "p99_w1_a1", "--output", tmp_path / "out")
    assert result.code == 2
    assert "p30_w4_a8" in one_line(result)
    assert not (tmp_path / "out").exists()


def test_a_trial_without_an_artifact_says_why(cli: Cli, tmp_path: Path) -> None:
    result = cli("export", make_experiment(tmp_path).path, "p50_w2_a8")
    assert result.code == 2
    assert "is invalid (Diverged" in one_line(result)


def test_a_storage_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spec = tiny_spec(tmp_path / "file" / "runs")
    result = cli("run", write_spec(tmp_path / "spec.yaml", spec))
    assert result.code == 3
    assert "cannot" in one_line(result)


@pytest.mark.ray
@pytest.mark.parametrize("case", ["missing", "empty", "html", "foreign", "nan"])
def test_a_bad_baseline_checkpoint(case: str, ray_address: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    if case == "empty":
        path.write_bytes(b"")
    elif case == "html":
        path.write_text("<html><body>Not found</body></html>")
    elif case == "foreign":
        torch.save({"conv1.weight": torch.zeros(3)}, path)
    elif case == "nan":
        from trainables.config import Architecture, ModelConfig
        from trainables.models.model import build

        architecture = Architecture(model=ModelConfig(width=0.1), classes=10, channels=1, image_size=8)
        state = build(architecture).state_dict()
        state["head.layer.weight"][0] = torch.nan
        torch.save(state, path)
    expected = {
        "missing": "cannot read",
        "empty": "is empty",
        "html": "no file of plain weights",
        "foreign": "another architecture",
        "nan": "head.layer.weight holds NaN",
    }[case]
    spec_file = tmp_path / "spec.yaml"
    content = tiny_spec(tmp_path / "runs").model_dump(mode="json")
    content["base"]["baseline"] = {
        "kind": "import",
        "model": {"name": "mobilenet_v2", "width": 0.1},
        "checkpoint": str(path),
    }
    spec_file.write_text(dump_spec(ExperimentSpec.model_validate(content)))
    result = cli("run", spec_file)
    assert result.code == 2
    assert expected in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "runs" / "tiny").exists()


def test_exit_codes_of_experiment_errors() -> None:
    assert (LeaseHeld.exit_code, SearchAborted.exit_code) == (5, 4)


GOLDEN = Path(__file__).parents[2] / "trainables/golden/side8.mbq"


def test_inspect_shows_where_the_bytes_go(cli: Cli) -> None:
    result = cli("inspect", GOLDEN, columns=80)
    assert (result.code, result.err) == (0, "")
    assert f"{GOLDEN.stat().st_size:,} bytes" in result.out
    for words in ("vgg16", "bits per weight", "zero-order entropy", "features.15", "histogram", "references", "header"):
        assert words in result.out
    assert max(map(len, result.out.splitlines())) <= max(80, len(str(GOLDEN)) + 60)


def test_inspect_writes_its_report_as_json_too(cli: Cli) -> None:
    report = json.loads(cli("inspect", GOLDEN, "--json").out)
    assert sum(report["breakdown"].values()) == report["size_bytes"] == GOLDEN.stat().st_size
    assert [layer["bits"] for layer in report["layers"]][:3] == [32, 4, 2]
    assert report["layers"][0]["entropy_bytes"] is None
    assert report["ratio_to_entropy"] > 1


@pytest.mark.parametrize(("cut", "code"), [(0, 6), (100, 6), (-1, 6), (None, 2)])
def test_inspect_refuses_a_file_that_is_damaged_or_not_there(
    cut: int | None, code: int, cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "model.mbq"
    if cut is not None:
        path.write_bytes(GOLDEN.read_bytes()[:cut])
    result = cli("inspect", path)
    assert result.code == code
    assert str(path) in one_line(result)
    assert one_line(result)
    assert result.out == ""


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>\n<html></html>", bytes(1000), b"{}", b"short"])
def test_inspect_says_of_another_file_that_it_is_none(content: bytes, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(content)
    line = one_line(cli("inspect", path))
    assert line.startswith(f"error: {path}: not a packed file: ")
    assert line.endswith("Give the path of a whole model.mbq.")


@pytest.mark.parametrize("content", [None, "[1]", ""])
def test_the_way_out_of_a_bad_spec_exists(content: str | None, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path
    if content is not None:
        path = tmp_path / "spec.yaml"
        path.write_text(content)
    line = one_line(cli("plan", path))
    assert "examples" not in line
    assert line.endswith("`tune-app demo` writes one to demo/demo.yaml.")


def test_inspect_refuses_a_folder(cli: Cli, tmp_path: Path) -> None:
    result = cli("inspect", tmp_path)
    assert result.code == 2
    assert "cannot read" in one_line(result)


@pytest.mark.parametrize("arguments", [["--help"], ["spaces", "mixed"], ["inspect", str(GOLDEN), "--json"]])
def test_a_reader_that_went_away_ends_a_command_without_a_word(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "tune_app", *arguments], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("typed", "word", "completed"), [("tune-app fronti", 1, "frontier"), ("tune-app run --in-pro", 2, "--in-process")]
)
def test_the_shell_completes_commands_and_options(typed: str, word: int, completed: str) -> None:
    code = "import sys; sys.argv = ['tune-app']; from tune_app.cli.main import main; main()"
    asked = {"_TUNE_APP_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(word)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [completed], done
