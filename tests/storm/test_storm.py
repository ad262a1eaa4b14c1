"""A few of the faults that `make storm` does to a search."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.documents import ROOT

MOST = 2
"""Faults of each kind."""


def test_a_search_that_is_killed_or_overtaken_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    options = ["--most", str(MOST), "--processes", "1", "--output", str(tmp_path / "storm")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.storm", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "storm.json").read_text())["figures"]["rows"]
    assert Counter(row["kind"] for row in rows) == {"kill before": MOST, "kill after": MOST, "pause": MOST}
    hit = Counter(row["kind"] for row in rows if row["hit"])  # others came too late: some writes depend on the clock
    assert min(hit["kill before"], hit["kill after"], hit["pause"]) >= 1
