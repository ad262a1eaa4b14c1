"""Commands as a person copies them into a shell."""

import re
import shlex
from pathlib import Path


def command(*words: object, program: str = "tune-app") -> str:
    """Returns a command of this program, or of another one; what a shell would take apart or run is quoted."""
    return shlex.join([program, *map(str, words)])


def in_page(line: str) -> str:
    """Returns a quoted command as text that is UTF-8: the other bytes of a path are written as a shell reads them."""
    return re.sub("[\udc80-\udcff]+", lambda found: f"'$'{_octets(found[0])}''", line)


def watch_command(experiment: object) -> str:
    """Returns the command that shows a search in a browser while it runs, wherever its folder can be read."""
    return command("report", experiment, "--watch")


def from_here(place: object) -> object:
    """Returns a path as it is called from the working directory if it lies below that, and else as it is."""
    here = Path.cwd()
    return place.relative_to(here) if isinstance(place, Path) and place.is_relative_to(here) else place


def _octets(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode(errors="surrogateescape"))
