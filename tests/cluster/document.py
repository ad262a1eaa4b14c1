"""docs/cluster.md as blocks, for the tests that hold it to what is true."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from tune_app.spec.yaml_file import load_spec

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/cluster.md").read_text()


class Block(NamedTuple):
    """A fenced block with the heading above it; the mark of commands is their first line."""

    heading: str
    language: str
    mark: str
    text: str


def _blocks() -> Iterator[Block]:
    heading = ""
    for title, language, text in re.findall(r"^(#+ [^\n]*)$|^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S):
        heading = title.lstrip("# ") or heading
        mark, _, rest = text.partition("\n")
        if language:
            yield Block(heading, language, mark, rest) if language == "bash" else Block(heading, language, "", text)


BLOCKS = list(_blocks())
COMMANDS = [block for block in BLOCKS if block.language == "bash"]
RUN = [block for block in COMMANDS if block.mark == "# run"]


def with_section(spec_file: Path, section: str) -> None:
    """Replaces a part of a spec by a YAML block of the document."""
    yaml: Any = YAML(typ="safe")
    yaml.dump({**yaml.load(spec_file.read_text()), **yaml.load(section)}, spec_file)
    assert load_spec(spec_file).storage.startswith("s3://")
