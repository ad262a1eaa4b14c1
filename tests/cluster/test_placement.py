import pytest

from cluster.placement import size_facts, trials_at_once
from tests.cluster.factories import make_job


@pytest.mark.parametrize(
    ("workers", "cpu", "gpu", "fits"),
    [
        ({"cpus": 4, "gpus": 1, "max_nodes": 4}, 1, 0.25, 16),
        ({"cpus": 4, "gpus": 1, "max_nodes": 4}, 1, 1, 4),
        ({"cpus": 3, "gpus": 1, "max_nodes": 2}, 1, 0.25, 6),
        ({"cpus": 4, "gpus": 0, "max_nodes": 3}, 2, 0, 6),
        ({"cpus": 1, "gpus": 1, "max_nodes": 1}, 0.1, 0.1, 10),
        ({"cpus": 1, "gpus": 1, "max_nodes": 1}, 0.01, 1e-310, 100),
        ({"cpus": 8, "gpus": 2, "max_nodes": 1}, 1, 0.6, 2),  # Ray places a share on one GPU
        ({"cpus": 64, "gpus": 4, "max_nodes": 2}, 1, 0.3, 24),
        ({"cpus": 8, "gpus": 3, "max_nodes": 1}, 1, 2, 1),
    ],
)
def test_trials_share_nodes_by_their_scarcer_resource(
    workers: dict[str, int], cpu: float, gpu: float, fits: int
) -> None:
    assert trials_at_once(make_job(cluster={"workers": workers}, cpu=cpu, gpu=gpu, trials=1000)) == fits


def test_a_budget_does_not_count_trials_on_cheaper_rungs() -> None:
    workers = {"workers": {"cpus": 16, "gpus": 1, "max_nodes": 2}}
    assert trials_at_once(make_job(cluster=workers, gpu=0, trials=4, on_rungs=24)) == 24
    assert trials_at_once(make_job(cluster=workers, gpu=0, trials=4, on_rungs=24, max_concurrent=5)) == 5
    assert trials_at_once(make_job(cluster=workers, gpu=0, trials=4)) == 4


def test_automatic_shares_of_a_gpu_count_as_small_as_they_may_become() -> None:
    workers = {"workers": {"cpus": 16, "gpus": 1, "max_nodes": 2}}
    assert trials_at_once(make_job(cluster=workers, gpu=1, gpu_least=0.125, trials=1000)) == 16
    assert trials_at_once(make_job(cluster=workers, gpu=1, trials=1000)) == 2


def test_no_more_trials_run_than_there_are_or_than_the_spec_allows() -> None:
    assert trials_at_once(make_job(trials=3)) == 3
    assert trials_at_once(make_job(trials=1000, max_concurrent=5)) == 5


def test_the_bill_counts_head_and_all_workers() -> None:
    job = make_job(cluster={"head": {"cpus": 3}, "workers": {"cpus": 8, "gpus": 2, "min_nodes": 1, "max_nodes": 5}})
    facts = size_facts(job.cluster)
    assert (facts["cpus_at_most"], facts["gpus_at_most"]) == (43, 10)
    assert (facts["workers_at_least"], facts["workers_at_most"]) == (1, 5)
