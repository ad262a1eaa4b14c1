"""Parquet: a data set as parquet files with a column of encoded images and one of labels, as sets are often shared."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.config import DataConfig
from trainables.data.decoding.encoded import EncodedImages, file_stamp
from trainables.data.labels import ONE_CLASS, class_labels
from trainables.data.sources import SPLITS, Source, from_splits, root_of, split_of
from trainables.errors import ConfigError


def load_parquet(config: DataConfig) -> Source:
    """Loads parquet files; the root is one, or a folder that has them, in it or below it.

    A column holds encoded images as bytes, or as a struct with a field `bytes`; another one holds a label for each, an
    integer or text. Files whose name begins with `train`, `test` or `val`, and those in a folder of that name, are
    splits. Without a test split, the validation images are the test set, and without both a share of all images is,
    drawn by a fixed seed.

    Raises:
        ConfigError: a file or column is absent, or the labels are no classes.
    """
    root = root_of(config)
    splits = {split: _Table(files, config) for split, files in _files(root).items()}
    if "train" not in splits:
        raise ConfigError(f"{root} has no parquet files, or none of training images: name them train-….parquet.")
    train = splits["train"]
    labels, names = class_labels({split: table.labels() for split, table in splits.items()}, str(root), train.names())
    return from_splits({split: table.images(labels[split]) for split, table in splits.items()}, config, names=names)


def _files(root: Path) -> dict[str, list[Path]]:
    """Finds the files of each split, train first; where no name says one, all are of `train`."""
    if root.is_file():
        return {"train": [root]}
    found: dict[str, list[Path]] = {}
    files = sorted(file for file in root.rglob("*.parquet") if not file.name.startswith("."))
    for file in files:
        first = re.split(r"[-_.]", file.name)[0]  # train-00000-of-00002.parquet
        split = split_of(first) or ("" if file.parent == root else split_of(file.parent.name))
        found.setdefault(split, []).append(file)
    if list(found) == [""]:
        return {"train": files}
    return {split: found[split] for split in SPLITS if split in found}


class _Table:
    """The files of one split: their labels at once, and their images a row group at a time."""

    def __init__(self, files: Sequence[Path], config: DataConfig) -> None:
        self._files = [_open(file) for file in files]
        self._paths = files
        self._image, self._label = _columns(self._files[0].schema_arrow, files[0], config)
        for file, path in zip(self._files[1:], files[1:], strict=True):
            _refuse_another_schema(file.schema_arrow, path, files[0], self._image, self._label)
        self._held: tuple[int, pa.ChunkedArray] = (-1, None)
        self._groups = [(f, g) for f, file in enumerate(self._files) for g in range(file.num_row_groups)]
        rows = [self._files[f].metadata.row_group(g).num_rows for f, g in self._groups]
        self._starts = np.cumsum([0, *rows])
        ends = np.cumsum([0, *(file.metadata.num_rows for file in self._files)])
        self._first = ends[:-1].tolist()
        self._stamps = [file_stamp(file) for file in files]

    def labels(self) -> np.ndarray:
        """Returns the column of labels."""
        parts = [self._read(file, None, self._label) for file in range(len(self._files))]
        chunks = [chunk for n, part in enumerate(parts) for chunk in self._of_one_kind(n, part, parts[0].type).chunks]
        column = pa.chunked_array(chunks, parts[0].type)
        if column.null_count:
            raise ConfigError(f"{self._paths[0]}: {column.null_count:,} labels of {self._label!r} are missing.")
        return np.asarray(column.to_numpy())

    def _of_one_kind(self, file: int, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
        """Returns a file's labels in the type of the first file's, such as integers of another width."""
        try:
            if pa.types.is_integer(column.type) == pa.types.is_integer(kind):
                return column.cast(kind)
        except pa.ArrowException:
            pass
        raise ConfigError(
            f"{self._paths[file]}: column {self._label!r} holds {column.type}, but {kind} in {self._paths[0]}: give "
            "all files of a split labels of one kind."
        )

    def names(self) -> tuple[str, ...]:
        """Returns the names of the classes, if the file's own description has them."""
        described = (self._files[0].schema_arrow.metadata or {}).get(b"huggingface", b"{}")
        try:
            feature = json.loads(described)["info"]["features"][self._label]
            return tuple(str(name) for name in feature["names"])
        except (ValueError, KeyError, TypeError):
            return ()

    def images(self, labels: np.ndarray) -> EncodedImages:
        """Returns the images, which are read when they are decoded."""
        return EncodedImages(labels, np.arange(len(labels)), self._bytes, self._name, self._stamp)

    def _bytes(self, row: int) -> bytes:
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if self._held[0] != group:
            file, part = self._groups[group]
            self._held = (group, self._read(file, part, self._image))
        value = self._held[1][row - int(self._starts[group])].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise OSError("it has no bytes")
        return content

    def _name(self, row: int) -> str:
        file, number = self._place(row)
        return f"row {number} of {self._paths[file]}"

    def _stamp(self, row: int) -> str:
        file, number = self._place(row)
        return f"{self._image} {number} {self._stamps[file]}"

    def _place(self, row: int) -> tuple[int, int]:
        """Returns the number of the file that holds a row, and that of the row in it."""
        file, _ = self._groups[int(np.searchsorted(self._starts, row, side="right")) - 1]
        return file, row - self._first[file]

    def _read(self, file: int, group: int | None, column: str) -> pa.ChunkedArray:
        try:
            content = self._files[file]
            table = content.read([column]) if group is None else content.read_row_group(group, [column])
            return table.column(0)
        except (OSError, pa.ArrowException, KeyError) as err:
            reason = str(err).splitlines()[0]
            raise ConfigError(f"cannot read column {column!r} of {self._paths[file]}: {reason}.") from err


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as err:
        raise ConfigError(f"cannot read {file}: {str(err).splitlines()[0]}. Fetch it again.") from err


def _columns(schema: pa.Schema, file: Path, config: DataConfig) -> tuple[str, str]:
    """Returns the names of the columns of images and of labels: as the spec says, or the only ones that fit."""
    images = [field.name for field in schema if _holds_images(field.type)]
    image = _chosen(config.columns.image, images, "image", schema, file)
    others = [field.name for field in schema if field.name != image and not pa.types.is_struct(field.type)]
    label = _chosen(config.columns.label, ["label"] if "label" in others else others, "label", schema, file)
    kind = schema.field(label).type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        raise ConfigError(
            f"{file}: column {label!r} holds lists of labels, but {ONE_CLASS}: choose one for each image."
        )
    if _holds_images(kind):
        raise ConfigError(f"{file}: column {label!r} holds images, as maps of classes are, but {ONE_CLASS}.")
    return image, label


def _refuse_another_schema(schema: pa.Schema, file: Path, first: Path, image: str, label: str) -> None:
    """Raises ConfigError: a file of a split has not the columns of the first one, of the same kinds."""
    there = set(schema.names)
    if missing := [name for name in (image, label) if name not in there]:
        raise ConfigError(
            f"{file} has no column {missing[0]!r}, which {first} has: give all files of a split the same."
        )
    if not _holds_images(schema.field(image).type):
        raise ConfigError(f"{file}: column {image!r} holds no images, as it does in {first}: mend the file.")


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_images(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _chosen(given: str | None, fitting: list[str], what: str, schema: pa.Schema, file: Path) -> str:
    if given is not None and given in schema.names:
        return given
    if given is None and len(fitting) == 1:
        return fitting[0]
    problem = f"has no column {given!r}" if given is not None else f"has {len(fitting)} columns that may be the {what}"
    raise ConfigError(f"{file} {problem}: set data.columns.{what} to one of {', '.join(schema.names)}.")
