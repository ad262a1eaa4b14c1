"""What nodes an autoscaler may add, as the head's environment says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import Workers
from cluster.errors import PlanRefused
from cluster.launchable import EXAMPLE, VARIABLE, launchable_here, launchable_text

COUNTS = {"cpus": st.integers(1, 1024), "gpus": st.integers(0, 64), "max_nodes": st.integers(1, 1000)}


@given(st.fixed_dictionaries(COUNTS))
def test_workers_survive_the_environment(counts: dict[str, int]) -> None:
    workers = Workers.model_validate(counts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, launchable_text(workers))
        [(resources, nodes)] = launchable_here()
    assert nodes == workers.max_nodes
    assert resources == {"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        (" ", []),
        (EXAMPLE, [({"CPU": 8.0, "GPU": 1.0}, 4)]),
        ("CPU=0.5, nodes=2", [({"CPU": 0.5}, 2)]),
    ],
)
def test_what_a_person_writes_is_read(
    text: str, found: list[tuple[dict[str, float], int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert launchable_here() == found


@pytest.mark.parametrize(
    "text", ["4", "CPU=4", "nodes=4", "nodes=0,CPU=4", "nodes=1.5,CPU=4", "nodes=4,CPU=-1", "nodes=4,CPU=4,CPU=8", ",,"]
)
def test_anything_else_is_refused_with_an_example(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(PlanRefused, match=EXAMPLE) as caught:
        launchable_here()
    assert len(str(caught.value).splitlines()) == 1
