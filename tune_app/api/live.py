"""A notebook's cell that shows an object again and again while something goes on."""

import contextlib
import contextvars
import sys
import threading
from collections.abc import Iterator
from typing import Any

from tune_app.engine.throttle import Throttle

EVERY_S, SHARE = 2.0, 0.05
"""Seconds between two pictures at least, and the share of the time that they take at most. Shorter: each reads the
experiment's folder, beside a search that may need the processor; longer: it seems to stand still."""

THREAD = "notebook's view"


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, such as Jupyter's."""
    return _display() is not None


@contextlib.contextmanager
def shown(what: object) -> Iterator[None]:
    """A context that shows an object in the notebook's cell, again while the block runs, and once more at its end.

    Elsewhere it does nothing.
    """
    display = _display()
    if display is None:
        yield
        return
    handle, over = display(what, display_id=True), threading.Event()
    pictures = Throttle(lambda: handle.update(what), every_s=EVERY_S, share=SHARE, waits=True)

    def follow() -> None:
        while not over.wait(EVERY_S):
            pictures.maybe()

    # The kernel knows by this context to which cell an output belongs.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(follow,), name=THREAD, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        handle.update(what)


def _display() -> Any:
    """Returns IPython's `display` in the kernel of a notebook, which has imported it; None elsewhere."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return None if getattr(shell, "kernel", None) is None else ipython.display.display
