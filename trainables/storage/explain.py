"""The errors of an object store's driver as one line of this package: what failed, why, and the way out."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainables.errors import StorageUnavailable
from trainables.storage.paths import SCHEMES, redact

if TYPE_CHECKING:
    from upath import UPath

DRIVERS = {"aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "requests"}
"""The packages whose errors are no OSErrors and still come from the store or the way to it."""
BROKEN_OFF = {"ClientPayloadError", "IncompleteRead", "IncompleteReadError", "ResponseStreamingError"}
"""The names of errors of an answer that had begun; the drivers ask again only when none had."""


@contextlib.contextmanager
def explained(action: str, path: "UPath", *, absent: bool = False) -> Iterator[None]:
    """Turns what goes wrong while something (`action`, such as "write") is done with a path into StorageUnavailable.

    With `absent`, FileNotFoundError passes, unless it is the bucket that is missing.
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
    """Returns what S3 calls an error, such as "NoSuchBucket"; empty where it did not say."""
    while err is not None:
        response = getattr(err, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        err = err.__cause__
    return ""


def _cause(err: Exception) -> str:
    """Returns the driver's words on one line, without credentials."""
    if isinstance(err, TimeoutError):
        return "no answer in time"
    words = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
    return redact(" ".join(words.split()).rstrip(".")) or type(err).__name__


def _way_out(err: Exception, path: "UPath") -> str:
    """Returns what a person can do about an error of the driver."""
    name = type(err).__name__
    if "Credential" in name or "Auth" in name:
        return f"Set {SCHEMES[path.protocol].credentials}."
    if isinstance(err, PermissionError) or _cause(err).startswith("Forbidden"):
        return "Let these credentials list, read, write and delete there."
    return f"Check the network and {SCHEMES[path.protocol].endpoint}; the same command then goes on."
