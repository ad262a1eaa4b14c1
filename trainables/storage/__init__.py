"""Files that are whole or absent, in a folder of this machine or in an object store (torch-free).

Create once, replace, publish a folder, hold a lock: a reader sees a whole file or none, also when the writer was
killed between any two of its steps. A path is a `pathlib.Path`, or a `UPath` for s3:// and gs://; only the functions
of this package read, list and write below it.
"""

from trainables.storage.info import FileInfo
from trainables.storage.lock import Lock
from trainables.storage.paths import StoragePath, redact, storage_path
from trainables.storage.posix import DRAFT
from trainables.storage.reading import (
    exists,
    files_by_folder,
    is_published,
    names,
    published,
    read_bytes,
    read_many,
    read_start,
    sha256,
    subfolders,
)
from trainables.storage.writing import (
    append_line,
    create_once,
    move,
    publish_folder,
    remove,
    remove_drafts,
    remove_folder,
    remove_tree,
    replace,
    replace_json,
    require_create_once,
)

__all__ = [
    "DRAFT",
    "FileInfo",
    "Lock",
    "StoragePath",
    "append_line",
    "create_once",
    "exists",
    "files_by_folder",
    "is_published",
    "move",
    "names",
    "publish_folder",
    "published",
    "read_bytes",
    "read_many",
    "read_start",
    "redact",
    "remove",
    "remove_drafts",
    "remove_folder",
    "remove_tree",
    "replace",
    "replace_json",
    "require_create_once",
    "sha256",
    "storage_path",
    "subfolders",
]
