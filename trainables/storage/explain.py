"""What an object store's driver raises, as one line of ours."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainables.errors import StorageUnavailable
from trainables.storage.paths import SCHEMES, redact

if TYPE_CHECKING:
    from upath import UPath

DRIVERS = {"aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "requests"}
"""Packages whose errors are no OSErrors."""
BROKEN_OFF = {"ClientPayloadError", "IncompleteRead", "IncompleteReadError", "ResponseStreamingError"}
"""Errors of an answer that had begun; the drivers ask again only when there was none."""


@contextlib.contextmanager
def explained(action: str, path: "UPath", *, absent: bool = False) -> Iterator[None]:
    """Turns what goes wrong into StorageUnavailable.

    Args:
        action: what is done, such as "write".
        path: with what.
        absent: FileNotFoundError passes, unless it is the bucket that is missing.
    """
    try:
        yield
    except FileNotFoundError as err:
        if absent and error_code(err) != "NoSuchBucket":
            raise
        bucket = path.drive.rstrip("/")
        raise StorageUnavailable(
            f"cannot {action} {path}: there is no bucket {bucket!r}. Create it, or name another storage."
        ) from err
    except Exception as err:
        if not isinstance(err, OSError) and type(err).__module__.partition(".")[0] not in DRIVERS:
            raise
        raise StorageUnavailable(f"cannot {action} {path}: {_cause(err)}. {_way_out(err, path)}") from err


def error_code(err: BaseException | None) -> str:
    """What S3 calls an error, such as "NoSuchBucket"; empty where it did not say."""
    while err is not None:
        response = getattr(err, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        err = err.__cause__
    return ""


def _cause(err: Exception) -> str:
    """The driver's words on one line."""
    if isinstance(err, TimeoutError):
        return "no answer in time"
    words = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
    return redact(" ".join(words.split()).rstrip(".")) or type(err).__name__


def _way_out(err: Exception, path: "UPath") -> str:
    name = type(err).__name__
    if "Credential" in name or "Auth" in name:
        return f"Set {SCHEMES[path.protocol].credentials}."
    if isinstance(err, PermissionError) or _cause(err).startswith("Forbidden"):
        return "Let these credentials list, read, write and delete there."
    return f"Check the network and {SCHEMES[path.protocol].endpoint}; the same command then goes on."
