"""Which Ray a search joins, and one line for an address that is none. No Ray is started."""

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from tests.tune_app.factories import make_spec
from trainables.errors import ConfigError
from tune_app.errors import ClusterUnavailable
from tune_app.on_ray import session
from tune_app.on_ray.cluster_watch import head
from tune_app.on_ray.session import launchable, ray_session


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Ray was started with; it then fails, as if there were no room."""
    seen: dict[str, Any] = {}

    def init(**options: Any) -> None:
        seen.update(options)
        raise ValueError("no room\nat all")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return seen


def test_without_an_address_no_cluster_of_somebody_else_is_joined(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterUnavailable, match=r"\(on this machine\): no room\. Check RAY_ADDRESS"), ray_session():
        pass
    assert given["address"] == "local"
    assert given["dashboard_host"] == "127.0.0.1"


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8265", "https://head", "ray://127.0.0.1:10001", "http://u:hunter2@a:1"]
)
def test_an_address_of_another_kind_is_refused(
    address: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match=r"as in head:6379: send it with `tune-app submit`") as caught, ray_session():
        pass
    assert "hunter2" not in str(caught.value)
    assert not given


def test_an_address_that_is_given_goes_before_that_of_the_environment(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://elsewhere")
    with pytest.raises(ClusterUnavailable, match="nowhere"), ray_session(address="nowhere"):
        pass
    assert given["address"] == "nowhere"  # without it Ray would take the environment's, or any cluster of this machine
    with pytest.raises(ConfigError, match="ray://elsewhere"), ray_session():
        pass


@pytest.mark.parametrize("address", ["nonsense", "auto:auto"])
def test_an_address_that_ray_cannot_read(address: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterUnavailable, match=address), ray_session():
        pass
    assert given["address"] == address


@pytest.fixture
def port() -> Iterator[int]:
    """Somebody listens there, on the loopback of IPv6."""
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        yield server.getsockname()[1]


def test_a_head_with_an_address_of_ipv6_is_found(
    port: int, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"[::1]:{port}")
    with pytest.raises(ClusterUnavailable, match="no room"), ray_session():
        pass
    assert given
    assert head(f"[::1]:{port}").answers()


@pytest.mark.parametrize(("gpu", "fits"), [(0.6, 2), (0.3, 6), (1, 2), (2, 1), (0, 8), ("auto", 8)])
def test_a_share_of_a_gpu_lies_on_one_gpu(
    gpu: float | str, fits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "launchable", lambda: [])
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}, {"Alive": True, "Resources": {}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert session.fits_in_cluster(make_spec(tmp_path, resources={"cpu": 1, "gpu": gpu})) == fits


def test_what_an_autoscaler_told_ray_goes_before_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.state import state

    monkeypatch.setattr(state, "get_cluster_config", lambda: None)
    monkeypatch.delenv("TUNE_APP_LAUNCHABLE", raising=False)
    assert launchable() == []
    monkeypatch.setenv("TUNE_APP_LAUNCHABLE", "nodes=4,CPU=8")
    assert launchable() == [({"CPU": 8}, 4)]
    groups = [
        SimpleNamespace(resources={"CPU": 2}, max_count=3),
        SimpleNamespace(resources={"CPU": 1}, max_count=0),
        SimpleNamespace(resources={"CPU": 4}, max_count=-1),
    ]
    monkeypatch.setattr(state, "get_cluster_config", lambda: SimpleNamespace(node_group_configs=groups))
    assert launchable() == [({"CPU": 2}, 3), ({"CPU": 4}, 1)]
    monkeypatch.setattr(state, "get_cluster_config", lambda: None)
    monkeypatch.setenv("TUNE_APP_LAUNCHABLE", "many")
    with pytest.raises(ConfigError, match="TUNE_APP_LAUNCHABLE"):
        launchable()
