"""A packed file on the terminal: its bytes part by part and layer by layer."""

from typing import TYPE_CHECKING

from trainables.errors import ConfigError, CorruptFile
from trainables.storage import StoragePath, read_bytes, storage_path
from tune_app.text_table import print_table

if TYPE_CHECKING:
    from trainables.export.inspect import FileReport, LayerReport

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
    from tune_app.progress import doing

    with doing("decoding"):
        from trainables.export.inspect import inspect_file

        try:
            return inspect_file(content)
        except CorruptFile as err:
            raise CorruptFile(f"{path}: {err}. Give the path of a whole model.mbq.") from err


def print_report(report: "FileReport", *, title: str, json: bool) -> None:
    """Tables for people, or JSON alone."""
    if json:
        print(report.model_dump_json(indent=1))
        return
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
    print()
    heads = ("layer", "coder", "shape", "bits", "nonzero", "bytes", "bits/w", "entropy")
    print_table(heads, [_cells(layer) for layer in report.layers], left=("layer", "coder"))
    print()
    parts = {**report.breakdown, "file": report.size_bytes}.items()
    rows = [(name, f"{size:,}", f"{100 * size / report.size_bytes:.1f}%") for name, size in parts]
    print_table(("part", "bytes", "share"), rows, left=("part",))


def _cells(layer: "LayerReport") -> tuple[str, ...]:
    entropy = layer.entropy_bytes
    return (
        layer.name,
        layer.coder,
        "x".join(map(str, layer.shape)),
        str(layer.bits),
        f"{100 * layer.nonzero / layer.weights:.1f}%",
        f"{layer.coded_bytes:,.0f}",
        f"{layer.bits_per_weight:.3f}",
        ABSENT if entropy is None else f"{8 * entropy / layer.weights:.3f}",
    )
