"""Kernels as notebooks have them: on loopback alone, with a home and folders of Jupyter that are the test's own."""

import contextlib
import json
import os
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from tests.documents import ROOT

LIMIT_S = 300.0
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
LOOPBACK = "127.0.0.1"
Message = dict[str, Any]


def settle_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets Jupyter, here and in kernels that are started from here, write into one folder alone."""
    for name in FOLDERS:
        monkeypatch.setenv(name, str(home / name.lower()))
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    for name, value in {"HOME": str(home), "JUPYTER_PLATFORM_DIRS": "1", "PYTHONPATH": path}.items():
        monkeypatch.setenv(name, value)


class Kernel:
    """A kernel that runs, and a client of it."""

    def __init__(self, manager: KernelManager) -> None:
        self._manager, self._client = manager, manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=LIMIT_S)

    def run(self, code: str, *, seen: Callable[[Message], None] = lambda message: None) -> list[Message]:
        """Runs a cell; returns what it has shown, each of which `seen` is told as it comes."""
        cell, found, until = self._client.execute(code), list[Message](), time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                message = self._client.get_iopub_msg(timeout=1)
                if message["parent_header"].get("msg_id") != cell:
                    continue
                kind, content = message["msg_type"], message["content"]
                if kind == "status" and content["execution_state"] == "idle":
                    return found
                found.append({"kind": kind, **content})
                seen(found[-1])
        raise AssertionError(f"the cell has not ended: {found}")

    def interrupt(self) -> None:
        """Does what the button of a notebook does."""
        self._manager.interrupt_kernel()

    def close(self) -> None:
        """Leaves the kernel."""
        self._client.stop_channels()


@contextlib.contextmanager
def kernel(folder: Path) -> Iterator[Kernel]:
    """A kernel of this Python that works in a folder; `settle_in` came before."""
    manager = KernelManager(ip=LOOPBACK)
    manager.start_kernel(cwd=str(folder))
    try:
        assert json.loads(Path(manager.connection_file).read_text())["ip"] == LOOPBACK
        opened = Kernel(manager)
        try:
            yield opened
        finally:
            opened.close()
    finally:
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def errors(messages: list[Message]) -> list[str]:
    """The names of the exceptions that a cell ended with."""
    return [message["ename"] for message in messages if message["kind"] == "error"]


def pages(messages: list[Message]) -> list[str]:
    """The HTML that a cell has shown, in order, with its updates."""
    kinds = ("display_data", "update_display_data", "execute_result")
    return [message["data"].get("text/html", "") for message in messages if message["kind"] in kinds]
