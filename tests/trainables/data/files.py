"""Small data sets as files: a folder for each class, parquet, arrays."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NAMES = ("ant", "bee", "cat")


def draw(count: int, *, seed: int = 0, size: tuple[int, int] = (8, 8)) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) uint8, all different, and labels of three classes in turn."""
    images = np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return images, np.arange(count) % len(NAMES)


def encoded(values: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """An image as a file."""
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **options)
    return stream.getvalue()


def write_folder(
    place: Path, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...] = NAMES, kind: str = "PNG"
) -> Path:
    """Files in a folder for each class, numbered in the order of the images."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = place / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05d}.{kind.lower()}").write_bytes(encoded(image, kind))
    return place


def write_parquet(
    file: Path, images: np.ndarray, labels: Any, *, named: bool = True, struct: bool = True, group: int = 7
) -> Path:
    """A column of PNG files, alone or in a struct with their paths, and a column of labels; names are described."""
    content = [encoded(image) for image in images]
    values = [{"bytes": one, "path": f"{n}.png"} for n, one in enumerate(content)] if struct else content
    table = pa.table({"image": values, "label": labels})
    if named:
        features = {"image": {"_type": "Image"}, "label": {"names": list(NAMES), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=group)
    return file
