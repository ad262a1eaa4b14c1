"""`tune-app`, which is `python -m tune_app`: the command line, and a stop signal's exit code while it is imported."""

import atexit
import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = {128 + number for number in NUMBERS}


def main() -> None:
    """Runs the command line."""
    atexit.register(_handle, signal.SIG_IGN)  # the last thing: the interpreter would let a signal end its own end
    _handle(_end)
    from tune_app.cli.main import main as command_line

    code = 0
    try:
        command_line()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if code in STOPPED:  # a Ray that was cut off while it started crashes in an orderly end of the process
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        raise
    finally:
        _handle(lambda number, frame: os._exit(code))  # all is done, and only threads that hang are waited for


def _handle(handler: Any) -> None:
    """Sets the handler of stop signals, other than of one that this process was started to ignore."""
    for number in NUMBERS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    """Ends the process: nothing was begun yet, and an exception out of an import may get lost."""
    with contextlib.suppress(OSError):  # a terminal that is gone takes no line
        os.write(2, f"stopped by {signal.Signals(number).name}.\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    main()
