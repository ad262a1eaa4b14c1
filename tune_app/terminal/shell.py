"""Commands as a person copies them into a shell."""

import shlex
from pathlib import Path


def command(*words: object, program: str = "tune-app") -> str:
    """Returns a command of this program, or of another one; what a shell would take apart or run is quoted."""
    return shlex.join([program, *map(str, words)])


def watch_command(experiment: object) -> str:
    """Returns the command that shows a search in a browser while it runs, wherever its folder can be read."""
    return command("report", experiment, "--watch")


def from_here(place: object) -> object:
    """Returns a path as it is called from the working directory if it lies below that, and else as it is."""
    here = Path.cwd()
    return place.relative_to(here) if isinstance(place, Path) and place.is_relative_to(here) else place
