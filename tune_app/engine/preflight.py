"""Preflight: whether every node can do its part of a search, found out before a trial starts. No Ray in here."""

import os
import platform
import shutil
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from cluster.launchable import EXAMPLE, VARIABLE
from trainables.config import Frozen, coder_packages
from trainables.errors import ConfigError, StorageUnavailable, TuneAppError
from trainables.storage import exists, storage_path
from tune_app.errors import ClusterUnavailable
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.versions import installed_version, packages_of
from tune_app.spec.experiment import ExperimentSpec

PACKAGES = ("ray", "torch", "tune-app")
"""Whose versions must be the same everywhere, as those of plug-ins: they decide what messages and numbers mean."""
LEAST_FREE_BYTES = 100_000_000
"""Free space below which a search would soon stop: room for the stages of some small networks, not for a search."""
ENDS_WITH: Mapping[str, type[TuneAppError]] = {
    "nodes": ClusterUnavailable,
    "storage": StorageUnavailable,
    "disk": StorageUnavailable,
}
"""The error of a rule that does not hold; of all others it is a ConfigError."""


class NodeReport(Frozen):
    """What a machine sees of the packages, the storage and the inputs that a search needs."""

    host: str
    silence: str = Field(default="", description="why it did not tell the rest; empty: it did")
    versions: dict[str, str] = Field(default={})
    storage: str = Field(default="", description="why the experiment's folder is of no use there; empty: it is")
    same_storage: bool = Field(default=False, description="the driver's token is there")
    free_bytes: int | None = Field(default=None, description="on the disk of a POSIX folder")
    inputs: str = Field(default="", description="why data set or checkpoint cannot be read there; empty: they can")


class Check(Frozen):
    """One rule that a search needs to hold, whether it does, and what was found."""

    rule: str
    holds: bool
    found: str
    way_out: str = ""


def report_node(spec: ExperimentSpec, token: str) -> NodeReport:
    """Reports what this machine sees; `token` names a file that the driver put into the experiment's folder."""
    folder = ExperimentFolder(spec.folder)
    storage, same = "", False
    packages = (*PACKAGES, *packages_of(spec.model_dump(mode="json")))
    try:
        folder.probe()
        same = exists(folder.path / token)
    except (StorageUnavailable, OSError) as err:
        storage = str(err)
    return NodeReport(
        host=socket.gethostname(),
        versions={
            "python": platform.python_version(),
            **{name: installed_version(name) for name in packages},
            **({"coders": ", ".join(coders)} if (coders := coder_packages()) else {}),
        },
        storage=storage,
        same_storage=same,
        free_bytes=_free_bytes(folder),
        inputs=_missing_input(spec),
    )


def checks(
    spec: ExperimentSpec,
    driver: NodeReport,
    nodes: Sequence[NodeReport],
    *,
    live: Sequence[Mapping[str, float]],
    launchable: Sequence[Mapping[str, float]] = (),
) -> list[Check]:
    """Checks every rule, and returns each with what was found.

    `driver` is what the driver sees, `nodes` what each live node sees, those included that did not tell. `live` has the
    resources of each live node, such as {"CPU": 8, "GPU": 1}, `launchable` those of nodes that an autoscaler may add.
    """
    told = [node for node in nodes if not node.silence]
    return [
        _answers(nodes),
        _storage(spec, told),
        _disk([driver, *told]),
        _inputs(told),
        _fits(spec, live, launchable),
        *(_same(name, driver, told) for name in dict.fromkeys(name for n in [driver, *told] for name in n.versions)),
    ]


def refuse(found: Iterable[Check]) -> None:
    """Ends a command at the first rule that does not hold.

    Raises:
        ClusterUnavailable: a node does not answer.
        StorageUnavailable: a node cannot use the storage.
        ConfigError: another rule.
    """
    for check in found:
        if not check.holds:
            kind = ENDS_WITH.get(check.rule, ConfigError)
            raise kind(f"{check.rule}: {check.found.rstrip('.')}. {check.way_out}".strip())


def _answers(nodes: Sequence[NodeReport]) -> Check:
    silent = [f"{node.host}: {node.silence}" for node in nodes if node.silence]
    return Check(
        rule="nodes",
        holds=not silent,
        found="; ".join(silent) or (f"{len(nodes)} of {len(nodes)} answer" if nodes else "none is up yet"),
        way_out="Every node needs this package and its dependencies: see that it is well." if silent else "",
    )


def _storage(spec: ExperimentSpec, nodes: Sequence[NodeReport]) -> Check:
    broken = [f"{node.host}: {node.storage}" for node in nodes if node.storage]
    other = [node.host for node in nodes if not node.storage and not node.same_storage]
    if broken:
        found, way_out = "; ".join(broken), "Give every node write access."
    elif other:
        found = f"{spec.storage} is another folder on {_names(other)}"
        way_out = "Name a folder that all nodes share, or an object store (s3://…)."
    else:
        everywhere = "everywhere" if len(nodes) == 1 else f"on all {len(nodes)} nodes"
        asked = everywhere if nodes else "as far as can be told: no node is up yet"
        found, way_out = f"{spec.storage} is the same {asked}, and can be written and read", ""
    return Check(rule="storage", holds=not broken and not other, found=found, way_out=way_out)


def _disk(everyone: Sequence[NodeReport]) -> Check:
    free = {node.host: node.free_bytes for node in everyone if node.free_bytes is not None}
    if not free:
        return Check(rule="disk", holds=True, found="an object store has no end")
    host, least = min(free.items(), key=lambda item: item[1])
    return Check(
        rule="disk",
        holds=least >= LEAST_FREE_BYTES,
        found=f"{least:,} bytes are free on {host}, {LEAST_FREE_BYTES:,} are needed at least",
        way_out="Free space, or choose another storage folder.",
    )


def _inputs(nodes: Sequence[NodeReport]) -> Check:
    missing = [f"{node.host}: {node.inputs}" for node in nodes if node.inputs]
    return Check(
        rule="inputs",
        holds=not missing,
        found="; ".join(missing) or "every node reads the data set's folder and the checkpoints that the spec names",
        way_out="Put the files where all nodes read them." if missing else "",
    )


def _fits(
    spec: ExperimentSpec, live: Sequence[Mapping[str, float]], launchable: Sequence[Mapping[str, float]]
) -> Check:
    gpu = spec.resources.gpu_at_first
    need = {"CPU": spec.resources.cpu, **({"GPU": gpu} if gpu else {})}
    wanted = ", ".join(f"{amount:g} {kind}" for kind, amount in need.items())
    for nodes, words in ((live, "a live node has it"), (launchable, "a node that may be launched has it")):
        if any(all(node.get(kind, 0.0) >= amount for kind, amount in need.items()) for node in nodes):
            return Check(rule="resources", holds=True, found=f"a trial needs {wanted}: {words}")
    largest = {kind: max((node.get(kind, 0.0) for node in [*live, *launchable]), default=0.0) for kind in need}
    short = [kind for kind, amount in need.items() if largest[kind] < amount] or list(need)
    has = ", ".join(f"{largest[kind]:g} {kind}" for kind in short)
    lower = " and ".join(f"resources.{kind.lower()}" for kind in short)
    return Check(
        rule="resources",
        holds=False,
        found=f"a trial needs {wanted}, but the largest node of the cluster has {has}",
        way_out=f"Lower {lower}, join a larger cluster, or say in {VARIABLE} what nodes its autoscaler may add "
        f"({EXAMPLE}).",
    )


def _same(name: str, driver: NodeReport, nodes: Sequence[NodeReport]) -> Check:
    ours = driver.versions.get(name, "none")
    other = {node.host: node.versions.get(name, "none") for node in nodes}
    wrong = [f"{host} has {theirs}" for host, theirs in other.items() if theirs != ours]
    return Check(
        rule=f"version of {name}",
        holds=not wrong,
        found=f"{driver.host} has {ours}" + (f", but {', '.join(wrong)}" if wrong else ", and so have all nodes"),
        way_out="Install the same version everywhere, or submit with this one's image." if wrong else "",
    )


def _missing_input(spec: ExperimentSpec) -> str:
    base = spec.base
    places = {
        "data.root": base.data.root,
        **{
            f"{who}.{what}": getattr(getattr(base, who), what, "")
            for who in ("baseline", "teacher")
            for what in ("checkpoint", "network")
        },
    }
    missing = [f"{field} {place}" for field, place in places.items() if place and not _readable(place)]
    return f"cannot read {', '.join(missing)}" if missing else ""


def _readable(place: str) -> bool:
    path = storage_path(place)
    return exists(path) if not isinstance(path, Path) else os.access(path.expanduser(), os.R_OK)


def _free_bytes(folder: ExperimentFolder) -> int | None:
    if not isinstance(folder.path, Path):
        return None
    try:
        return shutil.disk_usage(folder.path).free
    except OSError:
        return None


def _names(hosts: Sequence[str]) -> str:
    return ", ".join(hosts[:5]) + (f" and {len(hosts) - 5} more" if len(hosts) > 5 else "")
