"""`tune-app doctor`: every rule with what was found, the exit code of the first that does not hold, and no traces."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.specs import tiny_spec, write_spec

pytestmark = pytest.mark.ray
Cli = Callable[..., Result]


def test_a_cluster_where_the_search_can_run(ray_address: str, cli: Cli, tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "spec.yaml", tiny_spec(tmp_path / "runs"))
    result = cli("doctor", spec, columns=80)
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines()[2:] if not line.startswith(" ")]
    assert max(map(len, result.out.splitlines())) <= 80
    assert [row[0] for row in rows[:5]] == ["nodes", "storage", "disk", "inputs", "resources"]
    assert not [row for row in rows if "NO" in row]
    found = json.loads(cli("doctor", spec, "--json").out)
    assert len(found) == len(rows)
    assert all(finding["holds"] for finding in found)
    assert not (tmp_path / "runs/tiny").exists()


def test_a_trial_that_fits_no_node(ray_address: str, cli: Cli, tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "spec.yaml", tiny_spec(tmp_path / "runs", resources={"cpu": 4000}))
    result = cli("doctor", spec)
    assert result.code == 2
    [row] = [line.split() for line in result.out.splitlines() if "NO" in line.split()]
    assert row[0] == "resources"
    assert result.err.startswith("error: resources: a trial needs 4000 CPU, but the largest node of the cluster has ")
    assert len(result.err.splitlines()) == 1
