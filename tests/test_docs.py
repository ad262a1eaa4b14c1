"""README and docs say what is true: their commands run, in their order, and their names exist."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from tests.documents import CLUSTER, PAGES, README, ROOT, Block, Shell, blocks, commands, merged, runs
from tests.trainables.data.files import draw, write_folder
from tune_app.cli.main import app
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import load_spec
from tune_app.tables.query import frontier_frame
from tune_app.tables.trials import read_table

OURS = [page for page in PAGES if page != CLUSTER]
PLUG_INS = [ROOT / f"docs/how-to/{name}.md" for name in ("own-model", "own-data", "own-pruner")]
KNOWN = ROOT / "docs/how-to/plug-ins.md"
TUTORIAL = ROOT / "docs/tutorial.md"
"""Has an experiment of its own."""
PYTHON = ROOT / "docs/python.md"
"""Its blocks share their names, and need no demo."""
DEMO_PAGES = [
    page
    for page in OURS
    if page not in (*PLUG_INS, KNOWN, PYTHON, TUTORIAL) and any(runs(b) or b.language == "python" for b in blocks(page))
]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def of_language(language: str) -> list[Block]:
    return [block for page in OURS for block in blocks(page) if block.language == language]


@pytest.fixture(scope="module")
def shell(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A folder where `tune-app demo` has run; all pages share it."""
    folder = tmp_path_factory.mktemp("docs")
    found = Shell(folder, ray_address=ray_address)
    (folder / "demo.out").write_text(found.call("tune-app", "demo"))
    return found


@pytest.mark.ray
def test_the_demo_does_what_it_promises(shell: Shell) -> None:
    home = shell.folder
    table = read_table(home / "demo/demo/trials.parquet").to_pandas()
    assert len(table) == table.config_key.nunique() >= 16
    assert (table.state == "complete").all()
    best = frontier_frame(home / "demo/demo")
    assert len(best) >= 4
    text = (home / "demo.out").read_text()
    test_accuracy = float(re.search(r"baseline (\d+\.\d+) %", text)[1])  # type: ignore[index]
    assert test_accuracy >= 97
    info = (home / "demo/demo/baseline/baseline.json").read_text()
    baseline = float(re.search(r'"accuracy": ([\d.]+)', info)[1])  # type: ignore[index]
    small = best[best.compression_ratio >= 8]
    assert (small.accuracy >= baseline - 0.02).any()
    assert (home / "demo/frontier.png").read_bytes().startswith(b"\x89PNG")
    assert len(re.findall(r"^  tune-app ", text, re.M)) == 3


@pytest.mark.ray
def test_the_commands_that_the_demo_proposes_run(shell: Shell) -> None:
    proposed = re.findall(r"^  (tune-app .*)$", (shell.folder / "demo.out").read_text(), re.M)
    for line in proposed[:2]:  # the third one, a longer search, is in the README too
        shell.call(*shlex.split(line))
    assert shlex.split(proposed[2])[:2] == ["tune-app", "run"]


@pytest.mark.ray
@pytest.mark.parametrize("page", DEMO_PAGES, ids=name_of)
def test_what_a_page_marks_as_run_runs_in_its_order(shell: Shell, page: Path) -> None:
    said = ""
    for block in blocks(page):
        if block.language == "text":
            assert missing_in(said, block.text) == [], name_of(page)
        said = shell.do(block) or said
    for path in ("frontier.svg", "p75_w2_a8/model.mbq", "p75_w2_a8/card.json", "demo.html", "both.png"):
        assert path not in page.read_text() or (shell.folder / path).stat().st_size > 0


@pytest.mark.ray
def test_the_tutorial_is_a_session(ray_address: str, tmp_path: Path) -> None:
    shell, said = Shell(tmp_path, ray_address=ray_address), ""
    for block in blocks(TUTORIAL):
        if block.language == "text":
            assert missing_in(said, block.text) == []
        said = shell.do(block) or said
    exported = (tmp_path / "p50_w2_a8/model.mbq").read_bytes()
    assert len(exported) < (tmp_path / "my_net.safetensors").stat().st_size / 10
    assert (tmp_path / "p50_w2_a8-again").is_dir()
    assert (tmp_path / "photos.html").stat().st_size > 0


def test_the_page_on_python_runs_as_it_stands(tmp_path: Path) -> None:
    shell = Shell(tmp_path, names={})
    said = "".join(shell.do(block) for block in blocks(PYTHON))
    assert "6 points, 4 trials" in said
    assert "digits: 6 of 6 trials" in said
    assert "did you mean 'budget'?" in said
    measured, recorded = re.search(r"(\d+\.\d+)% of 287 validation images, recorded as (\d+\.\d+)%", said).groups()  # type: ignore[union-attr]
    assert float(measured) == pytest.approx(float(recorded), abs=0.5)


@pytest.mark.parametrize("page", PLUG_INS, ids=name_of)
def test_a_plug_in_is_what_its_page_says(page: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    images, labels = draw(90, size=(30, 40))
    images[np.arange(90), ..., labels] |= 0x80  # each class has more of one color
    write_folder(tmp_path / "photos", images, labels, kind="JPEG")
    for block in blocks(page):
        shell.do(block)


@pytest.mark.ray
def test_plug_ins_of_ones_own_can_be_searched(tmp_path: Path) -> None:
    shell = Shell(tmp_path)  # a Ray of its own: workers see the packages that were there when Ray started
    files = [block for page in PLUG_INS for block in blocks(page) if block.language == "python"]
    for block in files:
        shell.do(block)
    shell.call("python", "make_images.py")
    for block in blocks(KNOWN):
        shell.do(block)
    table = read_table(tmp_path / "runs/own/trials.parquet").to_pandas()
    assert (table.state == "complete").all()


def missing_in(said: str, shown: str) -> list[str]:
    """Lines of an output on a page whose words up to the first number the command did not print."""
    heads = [re.split(r"\d", line)[0].rstrip() for line in shown.splitlines()]
    return [head for head in heads if len(head) > 4 and head not in said]


def test_an_output_that_a_command_no_longer_prints_is_found() -> None:
    assert missing_in("accuracy   91.20 %\nsize  3", "accuracy   88.85 %") == []
    assert missing_in("accuracy   91.20 %", "accuracy 88.85 %\nworst class 3") == ["accuracy", "worst class"][1:]


def test_blocks_of_commands_say_whether_they_run() -> None:
    docs = [block for block in of_language("bash") if block.page != README]
    assert docs
    assert {block.mark for block in docs} == {"# run", "# not run"}
    assert {words[0] for block in docs if runs(block) for words in commands(block)} == {"tune-app", "python", "pip"}


@pytest.mark.parametrize(
    "words", [w for b in of_language("bash") for w in commands(b) if w[0] == "tune-app"], ids=lambda w: shlex.join(w)
)
def test_a_command_is_one_that_our_program_understands(words: list[str]) -> None:
    assert parse(words[1:])


def parse(arguments: list[str]) -> bool:
    """Whether the command line takes these arguments; nothing is run."""
    command: Any = get_command(app)
    context = None
    while True:
        context = command.make_context(command.name or "tune-app", list(arguments), parent=context)
        if not hasattr(command, "resolve_command"):
            return True
        _, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])


def test_an_option_that_is_gone_is_found() -> None:
    with pytest.raises(Exception, match="no-such-option"):
        parse(["frontier", "demo/demo", "--no-such-option"])


def test_the_make_targets_of_the_readme_exist() -> None:
    targets = [words[1] for block in blocks(README) for words in commands(block) if words[0] == "make"]
    for target in [*targets, *re.findall(r"`make (\w+)", README.read_text())]:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
    assert "test" in targets
    assert re.search(r"make (test|check)", (ROOT / ".ci/run").read_text())


def test_every_command_is_documented() -> None:
    names = set(get_command(app).commands)  # type: ignore[attr-defined]
    shown = {words[1] for block in of_language("bash") for words in commands(block) if words[0] == "tune-app"}
    assert names == shown
    text = (ROOT / "docs/commands.md").read_text()
    assert {name for name in names if f"tune-app {name}" not in text} == set()
    for page in PAGES:
        assert set(re.findall(r"`tune-app ([a-z]+)", page.read_text())) <= names, name_of(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_pictures_and_headings_exist(page: Path) -> None:
    for target, heading in links(page):
        file = page.parent / target if target else page
        assert file.exists(), f"{target} in {name_of(page)}"
        assert not heading or heading in anchors(file), f"{target}#{heading} in {name_of(page)}"


def links(page: Path) -> Iterator[tuple[str, str]]:
    text = re.sub(r"`[^`\n]*`", "", page.read_text())
    for link in [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src(?:set)?="([^"]+)"', text)]:
        if "://" not in link:
            target, _, heading = link.partition("#")
            yield target, heading


def anchors(page: Path) -> set[str]:
    """What a link can name in a file: the headings of a page, the lines of anything else."""
    if page.suffix != ".md":
        return {f"L{number}" for number, _ in enumerate(page.read_text().splitlines(), start=1)}
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_can_be_reached_from_the_readme() -> None:
    found, new = set(), {README}
    while new:
        found |= new
        new = {(page.parent / target).resolve() for page in new for target, _ in links(page) if target.endswith(".md")}
        new -= found
    assert {name_of(page) for page in PAGES if page.resolve() not in found} == set()


def test_pictures_are_made_by_their_script_and_load_nothing() -> None:
    folder = ROOT / "docs/images"
    pictures = [path for path in folder.iterdir() if path.suffix in (".png", ".svg")]
    assert len(pictures) >= 3
    for picture in pictures:
        assert picture.name in (folder / "make.py").read_text(), picture.name
        assert any(picture.name in page.read_text() for page in PAGES), picture.name
    for picture in folder.glob("*.svg"):
        assert not re.search(r"(href|url\(|src)\W*https?:", picture.read_text())


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_examples_are_valid(path: Path) -> None:
    yaml: Any = YAML(typ="safe")
    content = yaml.load(path.read_text())
    imports = "checkpoint" in content["base"]["baseline"]  # of weights and images that are not in this repository
    spec = ExperimentSpec.model_validate(content) if imports else load_spec(path)
    spec.space.check(spec.base)
    assert spec.space.size > 0


@pytest.mark.parametrize(
    "block", [b for b in of_language("yaml") if not b.file], ids=lambda b: f"{name_of(b.page)}-{b.text.split(':')[0]}"
)
def test_yaml_on_a_page_is_part_of_a_valid_spec(block: Block) -> None:
    yaml: Any = YAML(typ="safe")
    demo = yaml.load((ROOT / "tune_app/cli/demo.yaml").read_text())
    spec = ExperimentSpec.model_validate(merged(demo, yaml.load(block.text)))
    spec.space.check(spec.base)


def test_project_files_name_no_package_index() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|file:|--index-url|--find-links", lock)
    assert "--hash=sha256:" in lock
    assert not (ROOT / "uv.lock").exists()
