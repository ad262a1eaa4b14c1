"""Does it work with networks that we did not make? timm's small classifiers, and what other tools do with the same.

    python -m benchmarks.zoo
    python -m benchmarks.zoo --only resnet10t --only ghostnet_050

The networks are chosen by a rule (`chosen`). Each meets each tool in a process of its own, which may take
`--seconds`; what is done is kept under `--folder`, and not done again.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import multiprocessing
import re
import resource
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import markdown_table, write_report
from benchmarks.zoo_tools import CLASSES, PACKAGES, TOOLS, Outcome, Shape, settled, tried

MAX_PARAMETERS, MAX_PIXELS, PER_FAMILY = 9_000_000, 256, 2
MAX_MEMORY = 8 << 30
"""Bytes that a tool may take for a network: two run side by side."""
SMALL_IMAGE = 64
"""The size of images where a network takes them, so that the run takes an hour and not a day."""
NEEDED = ("captured", "pruning", "quantized", "packed file", "ONNX file")
"""The five parts that count; training and the count of operations are reported beside them."""
BAR = 0.85


@dataclasses.dataclass(frozen=True)
class Network:
    """A classifier of timm: the module of timm that it is from, its name, and its parameters."""

    family: str
    name: str
    parameters: int


def chosen() -> list[Network]:
    """Returns the smallest networks of each module of timm, those that timm has for its own tests left out."""
    import timm

    found = []
    for family in timm.list_modules():
        small = []
        for name in timm.list_models(module=family):
            with torch.device("meta"):
                module = timm.create_model(name, num_classes=CLASSES)
            parameters = sum(p.numel() for p in module.parameters())
            pixels = module.pretrained_cfg["input_size"][1]
            if parameters <= MAX_PARAMETERS and pixels <= MAX_PIXELS and not name.startswith("test_"):
                small.append(Network(family, name, parameters))
        found += sorted(small, key=lambda network: network.parameters)[:PER_FAMILY]
    return found


def made(name: str) -> tuple[Any, Shape]:
    """Returns a network with seeded weights and the shape of its images: small ones where it takes them."""
    import timm

    for size, more in ((SMALL_IMAGE, {}), (SMALL_IMAGE, {"img_size": SMALL_IMAGE}), (0, {})):
        try:
            torch.manual_seed(0)
            module = timm.create_model(name, num_classes=CLASSES, **more).eval()
            image = (3, size or module.pretrained_cfg["input_size"][1], size or module.pretrained_cfg["input_size"][2])
            return settled(module, image), image
        except Exception:  # a network says in any way that it does not take images of that size
            continue
    raise ValueError(f"{name} runs on no size of images")


def attempt(tool: str, name: str, target: str) -> None:
    """Tries one tool on one network and writes the outcomes as JSON."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    module, image = made(name)
    outcomes = tried(tool, module, image)
    Path(target).write_text(json.dumps({"image": image, "outcomes": [dataclasses.asdict(o) for o in outcomes]}))


def outcomes(tool: str, name: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Returns what a tool makes of a network, from a process of its own or from an earlier run."""
    target = folder / tool / f"{name}.json"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=attempt, args=(tool, name, str(target)))
        process.start()
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
        if not target.exists():
            why = f"not done in {seconds:.0f} s" if process.exitcode == -9 else f"exit code {process.exitcode}"
            late = dataclasses.asdict(Outcome("raised", False, why, seconds))
            target.write_text(json.dumps({"image": None, "outcomes": [late]}))
    found: dict[str, Any] = json.loads(target.read_text())
    print(f"{tool:14s} {name:34s} {_short(tool, found)}", flush=True)
    return found


def holding(found: dict[str, Any]) -> set[str]:
    """Returns the parts that hold."""
    return {outcome["part"] for outcome in found["outcomes"] if outcome["holds"]}


def passes(tool: str, found: dict[str, Any]) -> bool:
    """Whether a tool does all of its parts: ours five of them, each other the one that it is for."""
    return set(NEEDED) <= holding(found) if tool == "ours" else bool(holding(found))


def _short(tool: str, found: dict[str, Any]) -> str:
    if passes(tool, found):
        return "yes"
    return "; ".join(f"{o['part']}: {o['seen']}" for o in found["outcomes"] if not o["holds"])[:200] or "nothing done"


def report(networks: Sequence[Network], results: dict[str, dict[str, Any]], seconds: float) -> str:
    """Returns the text of the report: how many pass, what stops the others, and a line for each network."""
    tools = [tool for tool in TOOLS if results[tool]]
    families = len({network.family for network in networks})

    def count(tool: str, part: str | None = None) -> str:
        found = [results[tool][n.name] for n in networks]
        done = sum(passes(tool, f) if part is None else part in holding(f) for f in found)
        return f"{done} ({done / len(networks):.0%})"

    ours = [[part, count("ours", part)] for part in (*NEEDED, "training", "operations")]
    total = sum(passes("ours", results["ours"][n.name]) for n in networks)
    verdict = "met" if total >= BAR * len(networks) else "not met"
    others = [
        [
            f"{tool} {importlib.metadata.version(PACKAGES[tool])}",
            " ".join((TOOLS[tool].__doc__ or "").split()),
            count(tool),
        ]
        for tool in tools
        if tool != "ours"
    ]
    by_tool = {tool: [_error(results[tool][n.name]) for n in networks] for tool in tools if tool != "Torch-Pruning"}
    shared = [row for row in zip(*by_tool.values(), strict=True) if None not in row]
    errors = [
        [tool, f"{statistics.median(column):.2f}", f"{max(column):.2f}"]
        for tool, column in zip(by_tool, zip(*shared, strict=True), strict=True)
    ]
    misses = [
        [n.name, tool, _short(tool, results[tool][n.name]).replace("|", "/")]
        for tool in tools
        for n in networks
        if not passes(tool, results[tool][n.name])
    ]
    lines = [
        [n.name, n.family, _size(results["ours"][n.name]), f"{n.parameters / 1e6:.2f} M", *_cells(n, results, tools)]
        for n in networks
    ]
    version = importlib.metadata.version("timm")
    chosen_by = (
        f"{len(networks)} networks of {families} families (modules) of timm {version}: of each family the "
        f"{PER_FAMILY} smallest with at most {MAX_PARAMETERS / 1e6:.0f} M parameters and images of {MAX_PIXELS} pixels "
        f"or less, {CLASSES} classes; networks that timm has for its own tests are left out. Random weights, with "
        "scales, tokens and statistics of batch norm as a trained network has them."
    )
    how_judged = (
        f"Each tool has one core, {seconds:.0f} s and {MAX_MEMORY >> 30} GiB for a network. "
        "Other tools, each with its defaults on the same modules, judged by its own part alone: fewer weights, or "
        "8-bit weights and activations, and finite outputs of the right shape. No other tool writes a compressed file "
        "and reads it again."
    )
    how_far = (
        "How far 8-bit outputs lie from the float ones, relative to the largest, on 8 random images, over "
        f"the {len(shared)} networks that all three quantize. Random networks make a small difference large: "
        "this is no measure of accuracy."
    )
    return "\n\n".join(
        [
            chosen_by,
            f"Ours does all five parts with {count('ours')}; the bar of {BAR:.0%} is {verdict}.",
            markdown_table(["part", f"of {len(networks)}"], ours),
            how_judged,
            markdown_table(["tool", "part", f"of {len(networks)}"], others),
            how_far,
            markdown_table(["tool", "median", "largest"], errors),
            "## What stops the others",
            markdown_table(["network", "tool", "why"], misses) if misses else "Nothing.",
            "## Each network",
            markdown_table(["network", "family", "image", "parameters", "ours", *tools[1:]], lines),
        ]
    )


def _error(found: dict[str, Any]) -> float | None:
    """Returns how far 8-bit outputs lay off, where a tool says so."""
    says = " ".join(o["seen"] for o in found["outcomes"] if o["part"] == "quantized" and o["holds"])
    number = re.search(r"with 8 bits off by (\S+)", says)
    return float(number[1]) if number else None


def _size(found: dict[str, Any]) -> str:
    return "x".join(map(str, found["image"] or ()))


def _cells(network: Network, results: dict[str, dict[str, Any]], tools: Sequence[str]) -> list[str]:
    return ["yes" if passes(tool, results[tool][network.name]) else "no" for tool in tools]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/zoo"), help="where outcomes are kept")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/zoo"), help="the report's path")
    parser.add_argument("--only", action="append", default=[], help="a network; no report is written")
    parser.add_argument("--tool", action="append", choices=list(TOOLS), help="a tool; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--seconds", type=float, default=180, help="the time of a tool for a network")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    listed = options.folder / "networks.json"
    if not listed.exists():
        listed.write_text(json.dumps([dataclasses.asdict(network) for network in chosen()]))
    networks = [Network(**network) for network in json.loads(listed.read_text())]
    networks = [n for n in networks if not options.only or n.name in options.only]
    tools = options.tool or list(TOOLS)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["torch", "timm"])
    results: dict[str, dict[str, Any]] = {tool: {} for tool in TOOLS}
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = {
            (tool, network.name): pool.submit(outcomes, tool, network.name, options.folder, options.seconds)
            for tool in tools
            for network in networks
        }
        for (tool, name), future in waiting.items():
            results[tool][name] = future.result()
    if not options.only and set(tools) == set(TOOLS):
        figures = [{**dataclasses.asdict(n), **{tool: results[tool][n.name] for tool in tools}} for n in networks]
        write_report(
            options.output,
            title="Networks of other people",
            text=report(networks, results, options.seconds),
            data=figures,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
