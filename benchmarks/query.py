"""What a question to a million trials costs beside the same SQL in DuckDB.

    python -m benchmarks.query

The table has the columns of a real experiment (`results/search_table.parquet`) with other numbers in them. Ours opens
the experiment, makes sure that the table is current and whole, refuses what is no condition, and gives a data frame;
DuckDB reads the same file and gives a data frame. By turns, each with a new connection. The records themselves are
not made: of the ledger a question lists the names, sizes and times of change, 4 µs for each record (`many_records.py`
has commands on real ones).
"""

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.measure import quartiles
from benchmarks.report import markdown_table, write_report
from trainables.config import sealed, unsealed
from trainables.storage import read_bytes, replace
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.spec.yaml_file import load_spec
from tune_app.tables.at_rest import AtRest, current_table, ledger_state, settle
from tune_app.tables.query import frontier_frame
from tune_app.tables.sealed_parquet import checksum_of, encode_table
from tune_app.tables.totals import totals_of
from tune_app.tables.trials import read_table

HERE = Path(__file__).parent
BAR = 1.3
GOOD = "accuracy > 0.97 AND size_bytes < 300000 AND compression_ratio > 5"
QUESTIONS: dict[str, tuple[str, int | None]] = {
    "the 20 smallest of the good ones": (GOOD, 20),
    "all good ones": (GOOD, None),
    "a parameter and a name": ("w_bits = 4 AND label LIKE 'p30%' AND accuracy > 0.9", 100),
}


def make_experiment(place: Path, rows: int) -> ExperimentFolder:
    """An experiment with a table of so many trials, drawn with seed 0."""
    spec = load_spec(HERE / "search" / "table.yaml")
    folder = ExperimentFolder(place / spec.name)
    ledger, table = Path(str(folder.trials)), Path(str(folder.trials_table))
    ledger.mkdir(parents=True)
    folder.store_spec(spec)
    reference = {"accuracy": 0.1, "size_bytes": 1e6}
    totals = totals_of([], spec, reference).model_copy(update={"trials": {"complete": rows}})
    with Lease(folder) as lease:
        settle(lease, [], spec, totals, reference=reference, seen=ledger_state(folder))
    content = encode_table(_table(rows).replace_schema_metadata(read_table(table).schema.metadata))
    table.write_bytes(content)
    note = unsealed(read_bytes(folder.totals_file), AtRest, older=False)
    tables = {**note.tables, table.name: checksum_of(content)}
    replace(folder.totals_file, sealed(note.model_copy(update={"tables": tables})))
    assert current_table(folder) is not None, "the file answers"
    return folder


def _table(rows: int) -> pa.Table:
    rng = np.random.default_rng(0)
    real = pq.read_table(HERE / "results" / "search_table.parquet")
    drawn = real.take(pa.array(rng.integers(0, real.num_rows, rows)))
    columns = {name: drawn[name].combine_chunks() for name in drawn.column_names}
    keys, size = _hex(rng, rows), rng.integers(20_000, 900_000, rows)
    columns |= {
        "number": pa.array(np.arange(rows)),
        "config_key": keys,
        "artifact_sha256": _hex(rng, rows),
        "trial_id": pc.binary_join_element_wise(pc.utf8_slice_codeunits(keys, 0, 16), "full-a1", "-"),
        "accuracy": pa.array(rng.beta(20, 2, rows)),
        "size_bytes": pa.array(size),
        "compression_ratio": pa.array(1e6 / size),
    }
    for name in ("accuracy_mean", "seconds", "seconds_qat", "p_non_dominated"):
        columns[name] = pa.array(rng.random(rows))
    for name in ("size_codes", "parameters", "macs", "bops"):
        columns[name] = pa.array(rng.integers(10_000, 10**8, rows))
    return pa.table(columns)


def _hex(rng: np.random.Generator, rows: int) -> pa.Array:
    text = rng.bytes(32 * rows).hex()
    return pa.array([text[64 * i : 64 * i + 64] for i in range(rows)])


def ours(folder: ExperimentFolder, where: str, limit: int | None) -> pd.DataFrame:
    """Through the product."""
    return frontier_frame(folder.path, all=True, where=where, limit=limit)


def direct(folder: ExperimentFolder, where: str, limit: int | None) -> pd.DataFrame:
    """DuckDB alone."""
    tail = "" if limit is None else f" LIMIT {limit}"
    query = f"SELECT * FROM '{folder.trials_table}' WHERE {where} ORDER BY size_bytes, number{tail}"
    with duckdb.connect(":memory:") as connection:
        found: pd.DataFrame = connection.sql(query).df()
        return found


WAYS: dict[str, Callable[[ExperimentFolder, str, int | None], pd.DataFrame]] = {"ours": ours, "DuckDB": direct}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--folder", type=Path, default=Path("runs/query"))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "query")
    options = parser.parse_args(arguments)
    shutil.rmtree(options.folder, ignore_errors=True)
    folder = make_experiment(options.folder.resolve(), options.rows)
    found: dict[str, dict[str, list[float]]] = {question: {way: [] for way in WAYS} for question in QUESTIONS}
    for question, (where, limit) in QUESTIONS.items():
        numbers = {way: ask(folder, where, limit)["number"].tolist() for way, ask in WAYS.items()}
        assert numbers["ours"] == numbers["DuckDB"], "both give the same rows in the same order"
        for _ in range(options.rounds):
            for way, ask in WAYS.items():
                started = time.perf_counter()
                ask(folder, where, limit)
                found[question][way].append(time.perf_counter() - started)
    text = report(found, options)
    print(text)
    write_report(options.output, title="A question to a million trials", text=text, data=found)
    shutil.rmtree(options.folder, ignore_errors=True)


def report(found: dict[str, dict[str, list[float]]], options: argparse.Namespace) -> str:
    """The table, and whether the bar is met."""
    rows, worst = [], 0.0
    for question, times in found.items():
        ratio = quartiles([a / b for a, b in zip(times["ours"], times["DuckDB"], strict=True)])
        worst = max(worst, ratio.median)
        cells = [f"{1e3 * quartiles(times[way]).median:.0f}" for way in WAYS]
        rows.append([question, *cells, f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"])
    return "\n\n".join(
        [
            f"{options.rows:,} rows, {options.rounds} rounds; medians, and ratios by rounds with quartiles.",
            markdown_table(["question", "ours: ms", "DuckDB: ms", "ratio"], rows),
            f"Bar: at most {BAR} of DuckDB's time: {'met' if worst <= BAR else 'missed'} (largest median {worst:.2f}).",
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
