"""Where files lie: a folder of this machine, or a prefix of a bucket in an object store."""

import importlib.util
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from trainables.errors import ConfigError

if TYPE_CHECKING:
    from upath import UPath

StoragePath: TypeAlias = Union[Path, "UPath"]  # not a string: annotations such as `str | StoragePath` are evaluated


# A password may hold an @, or a slash, where what is before the slash is no host with its port.
_LOGIN = re.compile(r"://(?:[^\s'\"/]*|[^\s'\"/@:]*:(?!\d+/)[^\s'\"@]*)@")
_SECRET = re.compile(r"(?i)([?&][\w-]*(?:password|passwd|pwd|token|key|secret|signature)=)[^\s'\"&]+")


@dataclass(frozen=True)
class Scheme:
    """The driver that opens URIs of one kind, its options, and what people need to know of it."""

    driver: str
    extra: str
    credentials: str
    """The environment variables in which the driver finds credentials, as a message names them."""
    endpoint: str
    """The environment variable with another address of the store, as a message names it."""
    limit_s: float | None = None
    """Seconds that a call without content may take; None where the driver's own limits end it."""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FileInfo:
    """A file as a listing tells of it; `modified` are seconds since the epoch, by the clock of where it lies."""

    name: str
    size_bytes: int
    modified: float


SCHEMES = {
    "s3": Scheme(
        driver="s3fs",
        extra="s3",
        credentials="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        endpoint="AWS_ENDPOINT_URL",
        options={
            # One request for a read instead of two, and one stream for each file.
            "max_concurrency": 1,
            # Three attempts at a store that does not answer end within 30 s.
            "config_kwargs": {
                **{"connect_timeout": 4, "read_timeout": 8, "max_pool_connections": 64},
                "retries": {"mode": "standard", "total_max_attempts": 3},
            },
        },
    ),
    "gs": Scheme(
        driver="gcsfs",
        extra="gcs",
        credentials="GOOGLE_APPLICATION_CREDENTIALS",
        endpoint="STORAGE_EMULATOR_HOST",
        limit_s=28,
    ),
}
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_SPECIAL = re.compile(r"[*?\[\]#\\\x00-\x1f\x7f]")


def storage_path(place: "str | StoragePath") -> StoragePath:
    """Returns the path of a folder or file: a `Path` of this machine, or a `UPath` for s3://… or gs://…

    The endpoint and the credentials are those of the environment (AWS_ENDPOINT_URL, AWS_PROFILE, …).

    Raises:
        ConfigError: a URI of another kind, with credentials in it, that names no usable place, or whose driver is
            not installed.
    """
    if not isinstance(place, str):
        return place
    match = _URI.fullmatch(place)
    return Path(place) if match is None else _uri(place, match[1].lower(), match[2])


def redact(text: str) -> str:
    """Returns a text without the credentials of the addresses in it, before an @ or behind a question mark."""
    return _SECRET.sub(r"\1***", _LOGIN.sub("://***@", text))


def _uri(text: str, scheme: str, rest: str) -> "UPath":
    """Returns the path of a URI whose scheme and rest were taken apart, and refuses one that names no place."""
    # A secret key may hold slashes; a prefix may hold an @.
    has_credentials = re.match(r"[^/]*@|[^/]*:.*@", rest) is not None
    shown = f"{scheme}://***@{rest.rpartition('@')[2]}" if has_credentials else text
    if scheme not in SCHEMES:
        raise ConfigError(f"storage is a folder, s3://bucket/prefix or gs://bucket/prefix, but got {shown!r}.")
    known = SCHEMES[scheme]
    if has_credentials:
        raise ConfigError(f"no URI holds credentials, but got {shown!r}: leave them out and set {known.credentials}.")
    bucket, *parts = rest.rstrip("/").split("/")
    if not bucket or _SPECIAL.search(rest) or {"", ".", ".."} & set(parts):
        raise ConfigError(f"{shown!r} names no place: write it like {scheme}://bucket/prefix, without * ? [ ] # \\.")
    if importlib.util.find_spec(known.driver) is None:
        way_out = f"pip install 'tune-app[{known.extra}]'"
        raise ConfigError(f"{scheme}:// needs the package {known.driver}, which is not installed: {way_out}.")
    from upath import UPath

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # its retries write tracebacks to the terminal
    path: UPath = UPath(f"{scheme}://{'/'.join([bucket, *parts])}", use_listings_cache=False, **known.options)
    return path
