"""The files of an analysis in a folder: report, numbers, tables, predictions, figures."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainables.errors import ConfigError
from trainables.storage import StoragePath, remove, replace
from tune_app.drawing.sheet import to_png
from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.figures import FIGURES, figures
from tune_app.mistakes.numbers import numbers, per_class
from tune_app.mistakes.text import report
from tune_app.terminal.progress import track

CORNER = "true \\ predicted"


def write_files(analysis: Analysis, folder: StoragePath) -> list[str]:
    """Writes all files, each in one step, and returns their names; a figure left by an earlier analysis goes.

    Args:
        analysis: what they say.
        folder: is made if it is not there.

    Raises:
        ConfigError: the folder is a file.
        StorageUnavailable: it cannot be written.
    """
    if isinstance(folder, Path) and folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: give a folder.")
    found = figures(analysis)
    contents = {
        "report.txt": report(analysis).encode(),
        "failures.json": as_json(analysis).encode(),
        "confusion.csv": confusion_csv(analysis).encode(),
        "per_class.csv": per_class_csv(analysis).encode(),
        "predictions.parquet": predictions_parquet(analysis),
        **{f"{figure.name}.png": to_png(figure.drawing) for figure in track(found, "figures", total=len(found))},
    }
    for name, content in contents.items():
        replace(folder / name, content)
    for name in FIGURES:
        if f"{name}.png" not in contents:
            remove(folder / f"{name}.png")
    return list(contents)


def as_json(analysis: Analysis) -> str:
    """Returns the numbers of an analysis as JSON text."""
    return json.dumps(numbers(analysis), indent=1, allow_nan=False) + "\n"


def confusion_csv(analysis: Analysis) -> str:
    """Returns the confusion matrix as CSV: a row for each true class, a column for each predicted one."""
    matrix, names = analysis.outcome.matrix.tolist(), analysis.names
    return _csv([(CORNER, *names), *((name, *row) for name, row in zip(names, matrix, strict=True))])


def per_class_csv(analysis: Analysis) -> str:
    """Returns the rows of `per_class` as CSV; what is not known is empty."""
    rows = per_class(analysis)
    return _csv([list(rows[0]), *(list(row.values()) for row in rows)])


def predictions_parquet(analysis: Analysis) -> bytes:
    """Returns one row per validation image in its order, with what the network and the baseline say of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"index": range(len(analysis.labels)), "label": analysis.labels}
    for prefix, outcome in (("", analysis.outcome), ("baseline_", analysis.baseline)):
        if outcome is not None:
            columns |= {f"{prefix}predicted": outcome.predicted, f"{prefix}confidence": outcome.confidence}
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    table = table.replace_schema_metadata({"classes": json.dumps(analysis.names)})
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", write_page_checksum=True)
    return stream.getvalue()


def _csv(rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
