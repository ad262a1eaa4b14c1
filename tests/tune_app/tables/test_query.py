from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from tests.tune_app.factories import make_experiment, make_record, store_baseline, tabulate
from trainables.errors import ConfigError
from tune_app.ledger.folder import ExperimentFolder
from tune_app.tables.at_rest import TableFile, current_table, known_trials
from tune_app.tables.query import MAX_WHERE, frontier_frame, select


@pytest.fixture(scope="module", params=["rows from the ledger", "it's a file"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """The same experiment without and with a table that answers for the ledger."""
    place = tmp_path_factory.mktemp("query") / request.param
    found = make_experiment(place, tables=False)
    if "file" in request.param:
        tabulate(found)
    assert (current_table(found) is not None) == ("file" in request.param)
    return found


def numbers(frame: pd.DataFrame) -> list[int]:
    return [int(n) for n in frame["number"]]


HOSTILE = {
    "second statement": "1=1; DROP TABLE trials",
    "second statement between parentheses": "1=1); SELECT (1",
    "trailing semicolon": "1=1;",
    "copy": "COPY trials TO '{file}'",
    "copy behind the condition": "1=1); COPY trials TO '{file}' --",
    "attach": "ATTACH '{file}'",
    "install": "INSTALL httpfs",
    "set": "SET threads = 4",
    "file": "read_csv('/etc/passwd') is null",
    "file in a subquery": "exists (SELECT * FROM read_csv('/etc/passwd'))",
    "file as a table": "accuracy in (SELECT 1 FROM '/etc/passwd')",
    "text of a file": "(SELECT content FROM read_text('/etc/passwd')) is not null",
    "list of files": "glob('*') is not null",
    "union": "1=1) UNION SELECT * FROM trials WHERE (1=1",
    "union and comment": "1=1) UNION SELECT * FROM trials --",
    "union, newline and comment": "1=1\n) UNION SELECT * FROM trials --",
    "limit": "1=1) LIMIT (1",
    "order": "1=1) ORDER BY (1",
    "group": "1=1) GROUP BY (1",
    "having": "1=1) HAVING (1=1",
    "qualify": "1=1) QUALIFY (1=1",
    "sample": "1=1) USING SAMPLE (1",
    "window clause": "1=1) WINDOW w AS (",
    "deeper window clause": "1=1)) WINDOW w AS (), v AS (order by (1",
    "open parenthesis": "(1=1",
    "open comment": "1=1 /*",
    "subquery": "accuracy = (SELECT max(accuracy) FROM trials)",
    "scalar subquery": "(SELECT 1) = 1",
    "in a case": "case when exists (SELECT 1) then true end",
    "in an argument": "abs((SELECT 1)) = 1",
    "in a list": "1 in (1, (SELECT 1))",
    "lambda": "list_transform([1], lambda x: x) is null",
    "parameter": "accuracy > $1",
    "question mark": "accuracy > ?",
    "window": "count(*) over () > 1",
    "aggregate": "max(accuracy) > 0",
    "filter of a function": "abs(1) filter (where true) = 1",
    "function of a schema": "main.abs(1) = 1",
    "environment": "getenv('HOME') = 'x'",
    "setting": "current_setting('threads') = '1'",
    "user": "current_user = 'x'",
    "row id": "rowid = 0",
    "huge range": "len(range(100000000000)) > 0",
    "huge text": "repeat('x', 1000000000) = ''",
    "list": "[1, 2][1] = 1",
    "struct": "{'a': 1}.a = 1",
    "star": "columns(*) > 1",
    "row": "(1, 2) = (1, 2)",
    "regular expression": "label ~ '(a*)*b'",
    "cast to another type": "label::json is null",
    "cast to a list": "label::integer[] is null",
    "NUL": "accuracy > 0.9\x00",
    "escape": "\x1b[31m",
    "half a character": "label = '\udcff'",
    "only a comment": "-- nothing",
    "empty parentheses": "()",
    "a megabyte": "1=1 or " * 150_000 + "1=1",
    "deep parentheses": "(" * 4900 + "1=1" + ")" * 4900,
    "deep not": "not " * 900 + "true",
    "deep case": "case when true then " * 350 + "true" + " end" * 350,
}


@pytest.mark.parametrize("where", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_condition_is_refused(folder: ExperimentFolder, where: str) -> None:
    target = folder.path / "written"
    before = sorted(folder.path.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        frontier_frame(folder.path, all=True, where=where.replace("{file}", str(target)))
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 1000
    assert "root:" not in message
    assert sorted(folder.path.rglob("*")) == before


@pytest.mark.parametrize("clause", ["union", "limit", "order", "group", "having", "qualify", "sample"])
def test_the_shape_of_the_query_alone_refuses_further_clauses(
    folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, clause: str
) -> None:
    """Without the second pair of parentheses, which makes most of them syntax errors before."""
    monkeypatch.setattr(
        "tune_app.tables.query._statement", lambda where, **_: f"SELECT * FROM trials WHERE (\n{where}\n)"
    )
    with pytest.raises(ConfigError, match="is more than a condition"):
        select(known_trials(folder), HOSTILE[clause])


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("acuracy > 0.9", r"no column 'acuracy': did you mean 'accuracy'\?"),
        ("Size_Byte > 1", "did you mean 'size_bytes'"),
        ("size > 1", "no column 'size': did you mean 'size_bytes' or 'size_"),
        (
            "Ratio > 10",
            r"no column 'Ratio': did you mean 'compression_ratio' or 'pruned_compression_ratio'\? "
            "The first line of `tune-app frontier EXPERIMENT",
        ),
        ("zzz > 1", "the first line of `tune-app frontier EXPERIMENT --all --csv` names all columns, docs/columns.md"),
        ("reason.x = 1", "no column 'reason.x'"),
        ("other.accuracy > 1", "no column 'other.accuracy'"),
        ("accuracy >", "syntax error"),
        ("1 < accuracy < 2", "use AND"),
        ("label > 1", "Cannot compare values of type VARCHAR"),
        ("accuracy > 'high'", "Could not convert string 'high'"),
        ("label", "Could not convert string"),
        ("abs(label) > 1", "No function matches"),
        ("w_bits // 0 = 1", "Division by zero"),
        ("w_bits % 0 = 1", "Division by zero"),
        ("w_bits * 9223372036854775807 > 1", "Overflow"),
        ("sin(accuracy) > 0", "function 'sin' is not allowed here; allowed: abs"),
        ("label::json is null", "a cast to json is not allowed here; allowed: BIGINT"),
        ("x" * (MAX_WHERE + 1), "at most 10,000 characters, but got 10,001"),
        ("1=1 \x00", "control characters"),
    ],
)
def test_a_mistake_is_explained_in_one_line(folder: ExperimentFolder, where: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        frontier_frame(folder.path, all=True, where=where)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", {0, 1, 2, 3, 4, 5}),
        ("  ", {0, 1, 2, 3, 4, 5}),
        ("true", {0, 1, 2, 3, 4, 5}),
        ("accuracy > 0.9 and size_bytes < 200000", {1, 5}),
        ("accuracy > 90% and size_bytes < 200KB", {1, 5}),
        ("ACCURACY > 0.94", {0}),
        ("trials.accuracy > 0.94", {0}),
        ("accuracy > 0.94 -- the best", {0}),
        ("accuracy > 0.94 /* the best */", {0}),
        ("1=0) or (1=1", {0, 1, 2, 3, 4, 5}),  # closes a parenthesis, and still is one condition
        ("accuracy between 0.9 and 0.93", {1, 2, 5}),
        ("accuracy not between 0.9 and 0.93", {0, 3}),
        ("w_bits in (2, 4)", {1, 3, 4}),
        ("w_bits not in (2, 4)", {0, 2, 5}),
        ("state != 'complete'", {4}),
        ("accuracy is null", {4}),
        ("accuracy is not null and not on_frontier", {2, 5}),
        ("accuracy is distinct from 0.93", {0, 2, 3, 4}),
        ("label like 'p30%'", {1, 5}),
        ("label not ilike 'P30%'", {0, 2, 3, 4}),
        ("label glob 'p?_*'", {0}),
        ("reason like '%Na_' escape '!'", {4}),
        ("contains(reason, 'NaN')", {4}),
        ("starts_with(label, 'p0')", {0}),
        ("lower(upper(state)) = 'invalid'", {4}),
        ("label || '!' = 'p0_w8_a8!'", {0}),
        ("size_bytes / 1000 + 1 <= 61", {3}),
        ("size_bytes // 1000 % 2 = 1", {5}),
        ("-w_bits ** 2 = -4 or w_bits ^ 2 = 4", {4}),
        ("round(accuracy, 1) = 0.9 and abs(-1) = 1", {1, 2, 3, 5}),
        ("ROUND(accuracy, 1) = 0.9", {1, 2, 3, 5}),
        ("coalesce(accuracy, 1) = 1", {4}),
        ("greatest(accuracy, 0.94) = 0.94", {1, 2, 3, 4, 5}),
        ("nullif(w_bits, 8) is null", {0, 2, 5}),
        ("case when w_bits = 8 then accuracy > 0.94 else false end", {0}),
        ("w_bits::double = 4.0 and cast(w_bits as text) = '4'", {1, 3}),
        ("try_cast(label as int) is null and accuracy::decimal(5, 2) = 0.95", {0}),
        ("feasible", {0, 1, 2, 3, 5}),
        ("1/0 > 1 and w_bits / 0 > 1", {0, 1, 2, 3, 4, 5}),  # infinite, as DuckDB has it
        ("ln(0) > 0 or sqrt(4) = 3", set()),
        ("(" * 400 + "w_bits = 2" + ")" * 400, {4}),
        (" or ".join(["w_bits = 2"] * 700), {4}),
    ],
)
def test_a_condition_selects_its_rows(folder: ExperimentFolder, where: str, expected: set[int]) -> None:
    assert set(numbers(frontier_frame(folder.path, all=True, where=where))) == expected


def test_the_default_is_the_frontier_in_rising_size(folder: ExperimentFolder) -> None:
    frame = frontier_frame(str(folder.path))
    assert numbers(frame) == [3, 1, 0]
    assert frame["size_bytes"].tolist() == [60_000, 90_000, 250_000]
    assert numbers(frontier_frame(folder.path, where="w_bits = 4")) == [3, 1]


@pytest.mark.parametrize(
    ("sort", "limit", "expected"),
    [
        ("", None, [3, 1, 2, 5, 0, 4]),
        ("-size_bytes", None, [0, 5, 2, 1, 3, 4]),
        ("accuracy", None, [3, 2, 1, 5, 0, 4]),
        ("-accuracy", None, [0, 1, 5, 2, 3, 4]),
        ("label", 2, [0, 1]),
        ("-number", 100, [5, 4, 3, 2, 1, 0]),
        ("-number", 2**63 - 1, [5, 4, 3, 2, 1, 0]),
    ],
)
def test_sort_and_limit(folder: ExperimentFolder, sort: str, limit: int | None, expected: list[int]) -> None:
    assert numbers(frontier_frame(folder.path, all=True, sort=sort, limit=limit)) == expected


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sort": "acuracy"}, "cannot sort by 'acuracy': did you mean 'accuracy'"),
        ({"sort": "--accuracy"}, "cannot sort by '-accuracy'"),
        ({"sort": 'number"; DROP TABLE trials'}, "cannot sort by"),
        ({"limit": 0}, r"1 <= limit < 2\*\*63 must hold, but got 0"),
        ({"limit": -3}, "but got -3"),
        ({"limit": 2**63}, r"limit < 2\*\*63 must hold, but got 9223372036854775808\."),
    ],
)
def test_bad_options_are_refused(folder: ExperimentFolder, options: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        frontier_frame(folder.path, **options)


def test_a_folder_without_an_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no experiment"):
        frontier_frame(tmp_path)


def test_counts_stay_integers_beside_missing_values(folder: ExperimentFolder) -> None:
    for where in ("", "true", "false"):
        frame = frontier_frame(folder.path, all=True, where=where)
        assert frame["size_bytes"].dtype == pd.Int64Dtype()
        assert frame["accuracy"].dtype == "float64"
    assert frontier_frame(folder.path, all=True)["size_bytes"].isna().sum() == 1


def test_a_filter_keeps_values_and_types(folder: ExperimentFolder) -> None:
    table = known_trials(folder)
    assert select(table, "true").to_pydict() == table.to_pydict()
    assert select(table, "false").num_rows == 0


def test_a_name_with_a_dot_is_a_column(tmp_path: Path) -> None:
    records = [make_record(i, {"w_bits.depthwise": 4 + i}) for i in range(2)]
    folder = make_experiment(tmp_path, records)
    for where in ('"w_bits.depthwise" = 5', 'trials."w_bits.depthwise" = 5'):
        assert numbers(frontier_frame(folder.path, all=True, where=where)) == [1]
    for where in ("w_bits.depthwise >= 6", "trials.w_bits.depthwise >= 6", "W_BITS.depthwise in (4, 5)"):
        with pytest.raises(ConfigError, match=r"needs double quotes: write \"w_bits\.depthwise\"\.$"):
            frontier_frame(folder.path, where=where)
    with pytest.raises(ConfigError, match=r"there is no column 'w_bits\.depth': did you mean 'w_bits\.depthwise'"):
        frontier_frame(folder.path, where="w_bits.depth = 5")


def test_text_without_quotes_is_told_to_have_some(folder: ExperimentFolder) -> None:
    for where in ("label = p0_w8_a8", 'label = "p0_w8_a8"'):
        with pytest.raises(ConfigError, match=r"'p0_w8_a8': if it is a text, write it in single quotes, 'p0_w8_a8'; "):
            frontier_frame(folder.path, where=where)


def test_a_condition_that_takes_too_long_is_stopped() -> None:
    table = pa.table({"number": pa.array(range(3_000_000), pa.int64())})
    slow = " or ".join(f"ln(number + {i}.5) < -1" for i in range(120))
    with pytest.raises(ConfigError, match=r"took longer than 0\.2 s"):
        select(table, slow, time_limit_s=0.2)


def test_the_database_itself_reaches_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second wall: what stops a query if the check of the condition had a hole."""
    monkeypatch.setattr("tune_app.tables.query._check", lambda *_: None)
    file = tmp_path / "x.csv"
    file.write_text("a\n1\n")
    for source in (f"read_csv('{file}')", f"'{file}'"):
        assert duckdb.sql(f"SELECT * FROM {source}").fetchall() == [(1,)]
        with pytest.raises(ConfigError, match="disabled by configuration"):
            select(pa.table({"number": [1]}), f"exists (SELECT * FROM {source})")
    with pytest.raises(ConfigError, match="configuration has been locked"):
        select(pa.table({"number": [1]}), "true); SET threads = 4; SELECT (1")


def test_the_database_reaches_the_file_of_the_table_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_experiment(tmp_path)
    tabulate(folder)
    source = current_table(folder)
    assert isinstance(source, TableFile)
    monkeypatch.setattr("tune_app.tables.query._check", lambda *_: None)
    assert select(source, "true").num_rows == 6
    with pytest.raises(ConfigError, match="disabled by configuration"):
        select(source, f"exists (SELECT * FROM '{folder.frontier_table}')")


def test_a_damaged_file_answers_nothing(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    tabulate(folder)
    expected = frontier_frame(folder.path, all=True)
    content = bytearray(folder.trials_table.read_bytes())  # type: ignore[union-attr]
    for place in range(4, len(content) - 8, 211):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        folder.trials_table.write_bytes(damaged)  # type: ignore[union-attr]
        assert frontier_frame(folder.path, all=True)["accuracy"].equals(expected["accuracy"]), place


def test_both_ways_give_the_same_frame(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    store_baseline(folder)
    tabulate(folder)
    options: dict[str, Any] = {"all": True, "where": "accuracy > 0.8", "sort": "-accuracy", "limit": 4}
    built = frontier_frame(folder.path, **options)
    tabulate(folder)
    assert current_table(folder) is not None
    pd.testing.assert_frame_equal(frontier_frame(folder.path, **options), built)


@pytest.mark.parametrize(
    ("name", "decoy"),
    [("accuracy=0.5", ""), ("rung=ptq", ""), ("runs [1]", "runs 1"), ("a*b", "aXb"), ("a?b", "aXb")],
)
def test_the_name_of_a_folder_is_no_column_and_no_pattern(tmp_path: Path, name: str, decoy: str) -> None:
    """Hive's `column=value`, and what a glob would match: DuckDB knows both in paths."""
    place, plain = make_experiment(tmp_path / name), make_experiment(tmp_path / "plain")
    if decoy:
        make_experiment(tmp_path / decoy, [make_record(0, {"w_bits": 4}, 0.5)])
    assert current_table(place) is not None
    pd.testing.assert_frame_equal(frontier_frame(place.path, all=True), frontier_frame(plain.path, all=True))
