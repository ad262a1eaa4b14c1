"""A packed file on the terminal: its bytes part by part and layer by layer, its work and its activations."""

from typing import TYPE_CHECKING

from trainables.errors import ConfigError, CorruptFile
from trainables.storage import StoragePath, exists, read_bytes, storage_path
from tune_app.terminal.table import print_table

if TYPE_CHECKING:
    from trainables.export.inspect import FileReport, LayerReport

ABSENT = "–"


def inspect_path(place: str | StoragePath, *, batch: int = 1, index_bits: int = 3) -> "FileReport":
    """The report of a packed file, by its path or URI.

    Raises:
        ConfigError: there is no such file.
        CorruptFile: it is truncated, altered, or no packed file.
    """
    from tune_app.ledger.folder import ExperimentFolder

    path = storage_path(place)
    try:
        content = read_bytes(path)
    except OSError as err:
        if exists(ExperimentFolder(path).spec_file):
            raise ConfigError(f"{path} is an experiment: name one of its trials too.") from err
        raise ConfigError(
            f"cannot read {path}: {err.strerror or 'no such file'}. Give the path of a model.mbq."
        ) from err
    return _report(content, str(path), batch, index_bits)


def inspect_trial(
    experiment: str | StoragePath, trial: str, *, batch: int = 1, index_bits: int = 3
) -> tuple[str, "FileReport"]:
    """Label and report of a trial's packed file, by label, id or unique start of an id.

    Raises:
        ConfigError: there is no such experiment, or the name fits no complete trial.
        CorruptFile: the artifact is not what was written.
    """
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.ledger.reading import find_trial, verified_artifact

    folder = ExperimentFolder.existing(experiment)
    record = find_trial(folder, trial)
    label = record.assignment.label
    return label, _report(verified_artifact(record, folder), label, batch, index_bits)


def print_json(report: "FileReport") -> None:
    """The whole report, sizes of formulas among it."""
    print(report.model_dump_json(indent=1))


def print_report(report: "FileReport", *, title: str) -> None:
    """Tables for people."""
    _print_head(report, title)
    print()
    _print_activations(report)
    print()
    heads = ("layer", "coder", "shape", "bits", "nonzero", "bytes", "bits/w", "entropy")
    print_table(heads, [_stored(layer) for layer in report.layers], left=("layer", "coder"))
    print()
    costs = ("layer", "MACs", "w bits", "a bits", "BOPs", "activation bytes")
    print_table(costs, [*map(_computed, report.layers), _rest(report)], left=("layer",))
    print()
    parts = {**report.breakdown, "file": report.size_bytes}.items()
    rows = [(name, f"{size:,}", f"{100 * size / report.size_bytes:.1f}%") for name, size in parts]
    print_table(("part", "bytes", "share"), rows, left=("part",))


def print_formulas(report: "FileReport", *, title: str) -> None:
    """What the size formulas of earlier systems say, beside the file."""
    _print_head(report, title)
    print()
    rows = [(f.name, f"{f.size_bytes:,}", f"{f.compression_ratio:.2f}x", f.system, f.counts) for f in report.formulas]
    file = (
        "this file",
        f"{report.size_bytes:,}",
        f"{report.compression_ratio:.2f}x",
        "",
        "all that a decoder needs",
    )
    heads = ("formula", "bytes", "ratio", "system", "counts")
    print_table(heads, [*rows, file], left=("formula", "system", "counts"))
    print("\nzeros are those of the file, after rounding; the columns formula_*_bytes count the zeros of pruning alone")


def _report(content: bytes, source: str, batch: int, index_bits: int) -> "FileReport":
    from tune_app.terminal.progress import doing

    with doing("decoding"):
        from trainables.export.inspect import inspect_file

        try:
            return inspect_file(content, batch=batch, index_bits=index_bits)
        except CorruptFile as err:
            raise CorruptFile(f"{source}: {err}. Give the path of a whole model.mbq.") from err


def _print_head(report: "FileReport", title: str) -> None:
    model = report.architecture.model
    print(f"{title}: {model.name}, width {model.width:g}, {report.weights:,} weights")
    print(
        f"{report.size_bytes:,} bytes, {report.compression_ratio:.2f} times smaller than the unpruned network in "
        f"fp32 ({report.fp32_bytes:,} bytes)\n"
        f"its weights alone are {report.weight_ratio:.2f} times smaller ({report.weight_fp32_bytes:,} bytes in fp32), "
        f"its activations {report.activation_ratio:.2f} times\n"
        f"{report.bits_per_weight:.3f} bits per weight, {100 * report.nonzero_share:.1f} % of the weights are not zero"
    )
    if report.ratio_to_entropy is not None:
        print(
            f"quantized weights take {report.ratio_to_entropy:.4f} times their zero-order entropy "
            f"({report.entropy_bytes:,.0f} bytes)"
        )
    print(
        f"{report.macs:,} MACs, {100 * report.macs / report.fp32_macs:.2f} % of the unpruned network's; "
        f"{report.bops:,} BOPs, {100 * report.bops / report.fp32_bops:.2f} % of its"
    )


def _print_activations(report: "FileReport") -> None:
    batch = "1 image" if report.batch == 1 else f"{report.batch:,} images"
    heads = (f"activations of {batch}", "bytes", "unpruned fp32", "ratio", "counts")
    rows = [(a.name, f"{a.size_bytes:,}", f"{a.fp32_bytes:,}", f"{a.ratio:.2f}x", a.counts) for a in report.activations]
    print_table(heads, rows, left=(heads[0], "counts"))


def _stored(layer: "LayerReport") -> tuple[str, ...]:
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


def _computed(layer: "LayerReport") -> tuple[str, ...]:
    numbers = (layer.macs, layer.bits, layer.a_bits, layer.bops, layer.activation_bytes)
    return (layer.name, *(f"{n:,}" for n in numbers))


def _rest(report: "FileReport") -> tuple[str, ...]:
    """What no layer writes: pooled features, concatenations."""
    total = report.activations[0].size_bytes // report.batch
    rest = total - sum(layer.activation_bytes for layer in report.layers)
    return ("between layers", "", "", "", "", f"{rest:,}")
