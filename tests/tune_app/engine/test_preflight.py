"""What would go wrong on a node is found before a trial starts, and named with a way out."""

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import NodeDiedError, RayError, RayTaskError

from tests.tune_app.factories import make_spec
from trainables.errors import ConfigError, StorageUnavailable
from tune_app.engine.preflight import LEAST_FREE_BYTES, Check, NodeReport, checks, refuse, report_node
from tune_app.errors import ClusterUnavailable
from tune_app.ledger.folder import ExperimentFolder
from tune_app.on_ray import node_probes
from tune_app.spec.experiment import ExperimentSpec

VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.15.0", "tune-app": "0.1.0"}
NODE = {"CPU": 4.0, "GPU": 1.0}


def report(host: str, **changes: Any) -> NodeReport:
    whole = {
        "host": host,
        "versions": VERSIONS,
        "storage": "",
        "same_storage": True,
        "free_bytes": 10 * LEAST_FREE_BYTES,
        "inputs": "",
    }
    return NodeReport.model_validate({**whole, **changes})


def wrong(spec: ExperimentSpec, *nodes: NodeReport, **more: Any) -> list[Check]:
    found = checks(spec, report("driver"), nodes, **{"live": [NODE], **more})
    return [check for check in found if not check.holds]


@pytest.fixture
def spec(tmp_path: Path) -> ExperimentSpec:
    return make_spec(tmp_path)


def test_a_healthy_cluster_has_nothing_to_say(spec: ExperimentSpec) -> None:
    assert wrong(spec, report("a"), report("b")) == []


@pytest.mark.parametrize(
    ("changes", "rule", "words"),
    [
        ({"storage": "cannot write /x: Permission denied."}, "storage", ["b: cannot write /x"]),
        ({"same_storage": False}, "storage", ["another folder on b", "object store"]),
        ({"free_bytes": 1_000_000}, "disk", ["1,000,000 bytes are free on b"]),
        ({"inputs": "cannot read /data"}, "inputs", ["b: cannot read /data"]),
        ({"versions": {**VERSIONS, "torch": "2.14.0"}}, "version of torch", ["driver has 2.15.0", "b has 2.14.0"]),
        ({"versions": {}}, "version of python", ["b has none"]),
        ({"silence": "no answer within 30 s"}, "nodes", ["b: no answer within 30 s", "this package"]),
    ],
)
def test_a_node_that_differs_is_named(
    changes: dict[str, Any], rule: str, words: list[str], spec: ExperimentSpec
) -> None:
    found = {check.rule: check for check in wrong(spec, report("a"), report("b", **changes))}
    assert rule in found
    text = f"{found[rule].found} {found[rule].way_out}"
    assert [word for word in words if word not in text] == []
    assert found[rule].way_out


def test_a_refusal_is_two_sentences_with_one_full_stop_each(spec: ExperimentSpec) -> None:
    broken = report("b", storage="cannot write /x: Permission denied.")
    with pytest.raises(StorageUnavailable, match=r"^storage: b: cannot write /x: Permission denied\. Give every node"):
        refuse(wrong(spec, broken))
    with pytest.raises(ConfigError, match=r"^a rule: broken\.$"):
        refuse([Check(rule="a rule", holds=False, found="broken")])


def test_of_a_node_that_did_not_tell_nothing_else_is_said(spec: ExperimentSpec) -> None:
    silent = NodeReport(host="b", silence="No module named 'tune_app'")
    assert [check.rule for check in wrong(spec, report("a"), silent)] == ["nodes"]
    with pytest.raises(ClusterUnavailable, match=r"nodes: b: No module named 'tune_app'\. Every node needs"):
        refuse(wrong(spec, silent))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RayTaskError("_report", "Traceback …\n  …", ModuleNotFoundError("No module named 'tune_app'")),
            "No module named",
        ),
        (
            RayTaskError("_report", "Traceback …\n  …", ConfigError("s3:// needs s3fs.\nInstall it.")),
            "s3:// needs s3fs",
        ),
        (NodeDiedError("the node went away.\nIt had …"), "the node went away"),
    ],
)
def test_an_error_on_a_node_is_what_it_reports(error: RayError, words: str) -> None:
    def answer() -> NodeReport:
        raise error

    heard = node_probes.heard(answer, "b")
    assert heard.host == "b"
    assert heard.silence.startswith(words)
    assert len(heard.silence.splitlines()) == 1


def test_a_package_whose_version_nobody_knows_is_no_reason_to_end(
    spec: ExperimentSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("tune_app.ledger.versions.version", unknown)
    assert report_node(spec, ".token").versions["tune-app"] == "none"


def test_the_drivers_own_disk_counts(spec: ExperimentSpec) -> None:
    [check] = [f for f in checks(spec, report("driver", free_bytes=5), [report("a")], live=[NODE]) if f.rule == "disk"]
    assert not check.holds


def test_an_object_store_has_no_disk(spec: ExperimentSpec) -> None:
    driver, node = report("driver", free_bytes=None), report("a", free_bytes=None)
    assert all(check.holds for check in checks(spec, driver, [node], live=[NODE]))


@pytest.mark.parametrize(
    ("resources", "live", "launchable", "words"),
    [
        ({"cpu": 8}, [NODE], [], "8 CPU, but the largest node of the cluster has 4 CPU"),
        ({"cpu": 1, "gpu": 2}, [NODE], [], "2 GPU, but the largest node of the cluster has 1 GPU"),
        ({"cpu": 1, "gpu": "auto"}, [{"CPU": 4.0}], [], "1 GPU, but the largest node of the cluster has 0 GPU"),
        # Enough of each, but on no node both.
        ({"cpu": 8, "gpu": 1}, [{"CPU": 16.0}, NODE], [], "8 CPU, 1 GPU, but the largest"),
        ({"cpu": 1}, [], [], "1 CPU, but the largest node of the cluster has 0 CPU"),
        ({"cpu": 8}, [NODE], [{"CPU": 16.0}], ""),
        ({"cpu": 4, "gpu": 0.5}, [NODE], [], ""),
    ],
)
def test_a_trial_fits_a_live_node_or_one_that_may_be_launched(
    resources: dict[str, Any], live: Any, launchable: Any, words: str, tmp_path: Path
) -> None:
    spec = make_spec(tmp_path, resources=resources)
    found = wrong(spec, report("a"), live=live, launchable=launchable)
    assert [check.rule for check in found] == ["resources"] * bool(words)
    assert all(words in check.found for check in found)
    assert all("TUNE_APP_LAUNCHABLE" in check.way_out for check in found)


def test_refuse_ends_at_the_first_rule_that_does_not_hold() -> None:
    refuse([Check(rule="storage", holds=True, found="fine")])
    with pytest.raises(StorageUnavailable, match=r"storage: gone\. Mount it\."):
        refuse([Check(rule="storage", holds=False, found="gone", way_out="Mount it.")])
    with pytest.raises(ConfigError, match="version of ray"):
        refuse([Check(rule="version of ray", holds=False, found="other", way_out="Install it.")])


def test_this_machine_reports_what_it_sees(spec: ExperimentSpec) -> None:
    folder = ExperimentFolder(spec.folder)
    folder.path.mkdir(parents=True)
    (folder.path / ".token-1").touch()
    seen = report_node(spec, ".token-1")
    assert (seen.storage, seen.same_storage, seen.inputs) == ("", True, "")
    assert seen.versions.keys() == VERSIONS.keys()
    assert seen.free_bytes is not None
    assert seen.free_bytes > 0
    assert not report_node(spec, ".token-2").same_storage


def test_a_storage_that_is_not_there_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot write" in report_node(make_spec(tmp_path / "file"), ".token").storage


def test_missing_inputs_are_reported(tmp_path: Path) -> None:
    base = make_spec(tmp_path).base.model_dump()
    base["data"]["root"] = str(tmp_path / "nowhere")
    assert "nowhere" in report_node(make_spec(tmp_path, base=base), ".token").inputs
