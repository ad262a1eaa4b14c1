"""A packed file on the terminal: its bytes part by part and layer by layer."""

from typing import TYPE_CHECKING

from trainables.errors import ConfigError
from trainables.storage import StoragePath, read_bytes, storage_path

if TYPE_CHECKING:
    from rich.table import Table

    from trainables.export.inspect import FileReport

ABSENT = "–"


def inspect_path(place: str | StoragePath) -> "FileReport":
    """The report of a packed file, by its path or URI.

    Raises:
        ConfigError: there is no such file.
        CorruptFile: it is truncated, altered, or no packed file.
    """
    path = storage_path(place)
    try:
        content = read_bytes(path)
    except OSError as err:
        raise ConfigError(
            f"cannot read {path}: {err.strerror or 'no such file'}. Give the path of a model.mbq."
        ) from err
    from trainables.export.inspect import inspect_file

    return inspect_file(content)


def print_report(report: "FileReport", *, title: str, json: bool) -> None:
    """Tables for people, or JSON alone."""
    if json:
        print(report.model_dump_json(indent=1))
        return
    from rich.console import Console

    console = Console(highlight=False)
    model = report.architecture.model
    print(f"{title}: {model.name}, width {model.width:g}, {report.weights:,} weights")
    print(
        f"{report.size_bytes:,} bytes, {report.compression_ratio:.2f} times smaller than the unpruned network in "
        f"fp32 ({report.fp32_bytes:,} bytes)\n"
        f"{report.bits_per_weight:.3f} bits per weight, {100 * report.nonzero_share:.1f} % of the weights are not zero"
    )
    if report.ratio_to_entropy is not None:
        print(
            f"quantized weights take {report.ratio_to_entropy:.4f} times their zero-order entropy "
            f"({report.entropy_bytes:,.0f} bytes)"
        )
    for table in (_layers(report), _parts(report)):
        console.print()
        console.print(table)


def _layers(report: "FileReport") -> "Table":
    table = _table("layer", "coder", "shape", "bits", "nonzero", "bytes", "bits/w", "entropy")
    for layer in report.layers:
        entropy = layer.entropy_bytes
        table.add_row(
            layer.name,
            layer.coder,
            "x".join(map(str, layer.shape)),
            str(layer.bits),
            f"{100 * layer.nonzero / layer.weights:.1f}%",
            f"{layer.coded_bytes:,.0f}",
            f"{layer.bits_per_weight:.3f}",
            ABSENT if entropy is None else f"{8 * entropy / layer.weights:.3f}",
        )
    return table


def _parts(report: "FileReport") -> "Table":
    table = _table("part", "bytes", "share", text_columns=1)
    for name, size in report.breakdown.items():
        table.add_row(name, f"{size:,}", f"{100 * size / report.size_bytes:.1f}%")
    table.add_row("file", f"{report.size_bytes:,}", "100.0%")
    return table


def _table(*heads: str, text_columns: int = 2) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i < text_columns else "right", no_wrap=True)
    return table
