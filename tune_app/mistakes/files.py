"""The files of an analysis in a folder: report, numbers, tables, predictions, figures."""

import io
import json

from trainables.storage import StoragePath, refuse_file, remove, replace
from tune_app.drawing.sheet import to_png
from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.figures import FIGURES, figures
from tune_app.mistakes.numbers import numbers, per_class
from tune_app.mistakes.text import report
from tune_app.terminal.progress import track

CORNER = "true \\ predicted"


def write_files(analysis: Analysis, folder: StoragePath) -> list[str]:
    """Writes all files, each in one step, into a folder that is made if need be, and returns their names.

    A figure left by an earlier analysis goes.

    Raises:
        ConfigError: the folder is a file.
        StorageUnavailable: it cannot be written.
    """
    refuse_file(folder)
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
    import pandas as pd

    table = pd.DataFrame(analysis.outcome.matrix, index=analysis.names, columns=analysis.names)
    return table.to_csv(index_label=CORNER, lineterminator="\n")


def per_class_csv(analysis: Analysis) -> str:
    """Returns the rows of `per_class` as CSV; what is not known is empty."""
    import pandas as pd

    return pd.DataFrame(per_class(analysis)).to_csv(index=False, lineterminator="\n")


def predictions_parquet(analysis: Analysis) -> bytes:
    """Returns one row per image of the split in its order, with what the network and the baseline say of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"index": range(len(analysis.labels)), "label": analysis.labels}
    for prefix, outcome in (("", analysis.outcome), ("baseline_", analysis.baseline)):
        if outcome is not None:
            columns |= {f"{prefix}predicted": outcome.predicted, f"{prefix}confidence": outcome.confidence}
    arrays = {name: pa.array(values) for name, values in columns.items()}
    table = pa.table(arrays, metadata={"classes": json.dumps(analysis.names)})
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", write_page_checksum=True)
    return stream.getvalue()
