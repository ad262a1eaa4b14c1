"""Names of plug-ins: ours, those of this process, and those that installed packages bring."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainables.config import DATASETS, IMPORTANCE, MODELS, DataConfig
from trainables.errors import ConfigError
from trainables.registry import Registry, _installed, _scan, source
from tune_app.plug_ins import REGISTRIES, packages_of


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts a package with entry points where installed ones are looked for."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(name: str, group: str, **points: str) -> None:
        folder = tmp_path / f"{name}-1.5.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        lines = [f"{point} = {place}" for point, place in points.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
        for memory in (_installed, _scan):
            memory.cache_clear()

    yield put
    for memory in (_installed, _scan):
        memory.cache_clear()


def test_a_plug_in_is_registered_once() -> None:
    registry: Registry[object] = Registry("thing", {"join": "os.path:join"})
    thing = registry.register("mine")(object())
    assert registry["mine"] is thing
    assert registry.register("mine")(thing) is thing
    assert registry.names() == ["join", "mine"]
    with pytest.raises(ConfigError, match="thing 'mine' is registered already"):
        registry.register("mine")(object())
    with pytest.raises(ConfigError, match="thing 'join' is registered already"):
        registry.register("join")(object())
    with pytest.raises(ConfigError, match=r"unknown thing 'xyz'; known: join, mine\.$"):
        registry["xyz"]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.group)
def test_an_installed_package_adds_a_name(registry: Registry[object], install: Callable[..., None]) -> None:
    install("tiny", registry.group, tiny_one="os.path:join")
    assert "tiny_one" in registry.names()
    assert registry.check("tiny_one") == "tiny_one"
    assert registry["tiny_one"].__name__ == "join"  # type: ignore[attr-defined]
    assert source(registry.installed()["tiny_one"]) == "tiny 1.5"
    with pytest.raises(ConfigError, match="Did you mean 'tiny_one'"):
        registry.check("tiny_on")
    assert all("tiny_one" not in other.names() for other in REGISTRIES if other is not registry)


def test_a_spec_may_name_what_a_package_brings(install: Callable[..., None]) -> None:
    with pytest.raises(ConfigError, match="unknown data set 'own'"):
        DataConfig(name="own", root="data")
    install("tiny", DATASETS.group, own="tiny_data:load")
    assert DataConfig(name="own", root="data").name == "own"


def test_a_name_of_ours_cannot_be_replaced(install: Callable[..., None]) -> None:
    install("tiny", IMPORTANCE.group, l1="tiny:l1")
    assert IMPORTANCE["l1"].__module__ == "trainables.prune.importance"
    with pytest.raises(ConfigError, match=r"importance criterion 'l1' of tiny 1\.5 is the name of another one"):
        IMPORTANCE.names()


def test_two_packages_with_one_name_are_refused(install: Callable[..., None]) -> None:
    install("tiny", MODELS.group, net="tiny:Net")
    install("huge", MODELS.group, net="huge:Net")
    with pytest.raises(ConfigError, match=r"'net' of tune_app\.models is in \w+ 1\.5 and in \w+ 1\.5: remove one"):
        MODELS.check("net")


@pytest.mark.parametrize("place", ["no_such_module:Net", "os.path:no_such_name"])
def test_a_plug_in_that_cannot_be_imported_is_named(place: str, install: Callable[..., None]) -> None:
    install("tiny", MODELS.group, net=place)
    assert MODELS.check("net")
    with pytest.raises(ConfigError, match=rf"model 'net' of tiny 1\.5 cannot be imported from {place}: .*no_such"):
        MODELS["net"]


def test_packages_are_those_whose_names_are_used(install: Callable[..., None]) -> None:
    install("tiny", MODELS.group, net="tiny:Net")
    install("huge", DATASETS.group, photos="huge:load")
    spec = {"base": {"model": {"name": "net"}}, "space": {"importance": ["l1", "l2"]}}
    assert packages_of(spec) == ["tiny"]
    assert packages_of({"names": ["photos", "net", "l1"]}) == ["huge", "tiny"]
    assert packages_of({}) == []
