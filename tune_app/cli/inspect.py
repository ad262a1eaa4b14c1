"""`tune-app inspect`: where a packed file's bytes go, and what its network computes and holds."""

from typing import TYPE_CHECKING, Annotated

import typer

from tune_app.cli.options import NETWORKS, Trial, argument
from tune_app.terminal.quantities import show_ratio, show_share
from tune_app.terminal.table import ABSENT, print_table

if TYPE_CHECKING:
    from trainables.export.inspect import FileReport, LayerReport

app = typer.Typer()


@app.command(rich_help_panel=NETWORKS, epilog="Example: tune-app inspect p75_w2_a8/model.mbq")
def inspect(
    place: Annotated[str, argument("FILE|EXPERIMENT", "A packed file, model.mbq; or folder or URI of an experiment.")],
    trial: Trial = "",
    batch: Annotated[int, typer.Option(min=1, max=1_000_000, help="Images whose activations are counted.")] = 1,
    formulas: Annotated[
        bool, typer.Option("--formulas", help="Size formulas of earlier systems, not the layers.")
    ] = False,
    index_bits: Annotated[
        int, typer.Option(min=1, max=16, help="Of the formulas that give each non-zero weight an index.")
    ] = 3,
    a_bits: Annotated[
        int | None, typer.Option(metavar="BITS", help="Count float activations as if they had so many bits.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output: everything.")] = False,
) -> None:
    """Show where the bytes of a packed file go, layer by layer, and what the network computes and holds."""
    from tune_app.artifacts.inspect import inspect_network

    title, report = inspect_network(place, trial, batch=batch, index_bits=index_bits, a_bits=a_bits)
    if json:
        print(report.model_dump_json(indent=1))
        return
    if formulas:
        _print_formulas(report)
    else:
        _print_layers(report)
    print()
    _print_whole(report, title)  # after the long tables, where the prompt is


def _print_whole(report: "FileReport", title: str) -> None:
    """Prints the numbers of the whole file."""
    model = report.architecture.model
    print(f"{title}: {model.name}, width {model.width:g}, {report.weights:,} weights")
    nonzero = f"{show_share(report.nonzero_share, digits=1)} of the weights are not zero"
    print(f"{report.size_bytes:,} bytes, {report.bits_per_weight:.3f} bits per weight, {nonzero}")
    if report.ratio_to_entropy is not None:
        entropy = f"{report.ratio_to_entropy:.4f} times their zero-order entropy ({report.entropy_bytes:,.0f} bytes)"
        print(f"quantized weights take {entropy}")
    if report.assumed_a_bits is not None:
        print(f"activations are float; they count as if they had {report.assumed_a_bits} bits")
    print()
    coded = report.breakdown["codes"] + report.breakdown["models"]
    here = (report.size_bytes, coded, report.activations[0].size_bytes, report.macs, report.bops)
    own, whole = (
        (n.fp32_bytes, n.weight_fp32_bytes, n.activations[0].fp32_bytes, n.fp32_macs, n.fp32_bops)
        for n in (report.own, report)
    )
    names = ("file, bytes", "weights, bytes", f"activations of {_images(report)}", "MACs of 1 image", "BOPs of 1 image")
    rows = [
        (name, f"{ours:,}", f"{same:,}", show_ratio(same / ours), f"{full:,}", show_ratio(full / ours))
        for name, ours, same, full in zip(names, here, own, whole, strict=True)
    ]
    heads = ("beside fp32", "here", "same network", "ratio", "unpruned", "ratio")
    print_table(heads, rows, left=("beside fp32",))


def _images(report: "FileReport") -> str:
    return "1 image" if report.batch == 1 else f"{report.batch:,} images"


def _print_layers(report: "FileReport") -> None:
    """Prints four tables: activations, stored layers, computed layers, parts of the file."""
    batch = f"activations of {_images(report)}"
    rows = [
        (a.name, f"{a.size_bytes:,}", f"{a.fp32_bytes:,}", show_ratio(a.ratio), show_ratio(own.ratio), a.counts)
        for a, own in zip(report.activations, report.own.activations, strict=True)
    ]
    heads = (batch, "bytes", "unpruned fp32", "ratio", "same network's", "counts")
    print_table(heads, rows, left=(batch, "counts"), folded=("counts",))
    print()
    codes = ("layer", "coder", "shape", "bits", "nonzero", "bytes", "bits/w", "entropy")
    print_table(codes, map(_stored, report.layers), left=("layer", "coder"))
    print()
    costs = ("layer", "MACs", "w bits", "a bits", "BOPs", "activation bytes")
    total = report.activations[0].size_bytes // report.batch
    rest = total - sum(layer.activation_bytes for layer in report.layers)  # pooled features, concatenations
    between = ("between layers", "", "", "", "", f"{rest:,}")
    print_table(costs, [*map(_computed, report.layers), between], left=("layer",))
    print()
    parts = {**report.breakdown, "file": report.size_bytes}.items()
    shares = [(name, f"{size:,}", show_share(size / report.size_bytes, digits=1)) for name, size in parts]
    print_table(("part", "bytes", "share"), shares, left=("part",))


def _print_formulas(report: "FileReport") -> None:
    """Prints what the size formulas of earlier systems say, term by term, beside the file and its parts."""
    rows: list[tuple[str, ...]] = []
    for f in report.formulas:
        rows.append((f.name, f"{f.size_bytes:,}", show_ratio(f.compression_ratio), "", "", f.system))
        for term in f.terms:
            bits = ABSENT if term.bits is None else str(term.bits)
            rows.append((f"  {term.what}", f"{term.size_bytes:,.0f}", "", f"{term.count:,}", bits, ""))
    rows.append(("this file", f"{report.size_bytes:,}", show_ratio(report.compression_ratio), "", "", ""))
    rows += [(f"  {name}", f"{size:,}", "", "", "", "") for name, size in report.breakdown.items()]
    print_table(("formula", "bytes", "ratio", "count", "bits", "system"), rows, left=("formula", "system"))
    print(
        "\nzeros are those of the file, after rounding;\nthe columns formula_*_bytes count the zeros of pruning alone;"
        "\nsystem: whose rule it is; those called seed_… are recipes in examples/recipes"
    )


def _stored(layer: "LayerReport") -> tuple[str, ...]:
    """Returns the row of a layer's weights: how they are coded, and what that takes."""
    return (
        layer.name,
        layer.coder,
        "x".join(map(str, layer.shape)),
        str(layer.bits),
        show_share(layer.nonzero / layer.weights, digits=1),
        f"{layer.coded_bytes:,.0f}",
        f"{layer.bits_per_weight:.3f}",
        ABSENT if layer.entropy_bytes is None else f"{8 * layer.entropy_bytes / layer.weights:.3f}",
    )


def _computed(layer: "LayerReport") -> tuple[str, ...]:
    """Returns the row of a layer's work for one image."""
    numbers = (layer.macs, layer.bits, layer.a_bits, layer.bops, layer.activation_bytes)
    return (layer.name, *(f"{n:,}" for n in numbers))
