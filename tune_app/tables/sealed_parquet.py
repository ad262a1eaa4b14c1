"""A parquet file that proves what it holds: its footer carries a checksum of all other bytes.

Parquet's own page checksums leave its headers and its footer (column names, hypervolume) unprotected. Other
readers see an ordinary file.
"""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from trainables.errors import CorruptFile

CHECKSUM = b"tune_app.xxh3"
HEX_DIGITS = 32
BLANK = b"-" * HEX_DIGITS
PLACE = CHECKSUM + bytes([0x18, HEX_DIGITS])
"""In the footer the digest follows its name, a type and its length (Thrift's compact protocol)."""
TAIL = 8
"""Last bytes of a file: length of the footer, and the name of the format."""
CHUNK = 1 << 20


def encode_table(table: pa.Table) -> bytes:
    """The content of a file with this table and its metadata."""
    stream = io.BytesIO()
    # Arrow's own copy of the schema would repeat the metadata, and shadow the entries that other readers see.
    options = {"compression": "zstd", "write_page_checksum": True, "store_schema": False}
    with pq.ParquetWriter(stream, table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({**(table.schema.metadata or {}), CHECKSUM: BLANK})
    content = stream.getvalue()
    start = content.rindex(PLACE + BLANK) + len(PLACE)
    digest = xxhash.xxh3_128_hexdigest(content).encode()
    return content[:start] + digest + content[start + HEX_DIGITS :]


def check_table(file: io.BufferedIOBase, *, name: str) -> None:
    """Proves that a file is as it was written; reads it once, without decoding it.

    Raises:
        CorruptFile: it is truncated, altered or foreign.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - TAIL))
    length = int.from_bytes(file.read(TAIL)[:4], "little") + TAIL
    file.seek(max(0, size - length))
    footer = file.read()
    start = footer.rfind(PLACE) + len(PLACE)
    known = footer[start : start + HEX_DIGITS]
    file.seek(0)
    found = xxhash.xxh3_128()
    left, buffer = size - len(footer), memoryview(bytearray(CHUNK))
    while left and (taken := file.readinto(buffer[: min(left, CHUNK)])):
        found.update(buffer[:taken])
        left -= taken
    found.update(footer[:start] + BLANK + footer[start + HEX_DIGITS :])
    if found.hexdigest().encode() != known:
        raise CorruptFile(f"{name}: the checksum does not match the content")
