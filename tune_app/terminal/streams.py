"""Standard output and standard error as this program wants them: UTF-8 everywhere, and no traceback where they fail."""

import codecs
import io
import os
import re
import sys
from typing import Any

from trainables.errors import StorageUnavailable
from trainables.printable import printable

AS_READ = "tune_app.as_read"
"""How what is no text is written: bytes of a file's name as they are, and else as an escape."""


def _as_read(problem: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(problem)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(problem)


codecs.register_error(AS_READ, _as_read)


class OutputFailed(StorageUnavailable):
    """Standard output cannot be written, and somebody may still wait for it."""


class _Output(io.FileIO):
    """What standard output is written to."""

    def write(self, data: Any, /) -> int:
        """Writes bytes; BrokenPipeError where nobody reads any more, OutputFailed where they cannot be kept."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as err:
            raise OutputFailed(
                f"cannot write standard output: {err.strerror}. Send it elsewhere; what the command wrote into files "
                "is kept."
            ) from err


class _Messages(io.FileIO):
    """What standard error is written to; what cannot be written there is lost, since nothing could say so."""

    def write(self, data: Any, /) -> int:
        """Writes bytes as far as possible."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


def prepare_streams() -> None:
    """Lets this process write UTF-8, whatever its locale is, to a terminal of 1 to 9,999 columns.

    Raises:
        OutputFailed: standard output is closed.
    """
    for name in ("COLUMNS", "LINES"):  # rich prints nothing where they are 0, and for minutes where they are many
        if not re.fullmatch("[1-9][0-9]{0,3}", os.environ.get(name, "")):
            os.environ.pop(name, None)
    sys.stderr = _Text(_Messages(2, "w", closefd=False)) if _is_open(2) else _nowhere()
    if not _is_open(1):
        sys.stdout = _nowhere()
        raise OutputFailed("standard output is closed: send it to a file, or to /dev/null.")
    output = _Text(_Output(1, "w", closefd=False))
    sys.stdout = _Shown(output) if output.isatty() else output


def give_up_output() -> None:
    """Sends what is still to be written to standard output nowhere."""
    sys.stdout = _nowhere()


class _Text(io.TextIOWrapper):
    """A text stream on a file: line by line where people look at it, or where it is standard error."""

    def __init__(self, file: io.FileIO) -> None:
        at_once = file.isatty() or isinstance(file, _Messages)
        super().__init__(io.BufferedWriter(file), "utf-8", errors=AS_READ, line_buffering=at_once)


class _Shown(io.TextIOWrapper):
    """Standard output on a terminal: what is printed, as a file's name, cannot steer it, but rich's colors do."""

    def __init__(self, steering: _Text) -> None:
        # Both write through one buffer, at once: nothing passes the other.
        super().__init__(steering.buffer, "utf-8", errors=AS_READ, line_buffering=True, write_through=True)
        self.rich_proxied_file = steering  # rich asks for it by this name

    def write(self, text: str, /) -> int:
        """Writes a text with its control characters written out."""
        super().write(printable(text))
        return len(text)


def _nowhere() -> io.TextIOWrapper:
    return open(os.devnull, "w", encoding="utf-8")


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
