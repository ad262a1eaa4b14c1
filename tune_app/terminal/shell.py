"""Commands as a person copies them into a shell."""

import re
import shlex
from pathlib import Path

from trainables.printable import printable
from tune_app.terminal.streams import AS_READ


def command(*words: object, program: str = "tune-app") -> str:
    """Returns a command of this program, or of another one; what a shell would take apart or run is quoted.

    A path that begins with a dash is no option.
    """
    return " ".join(map(quoted, [program, *words]))


def quoted(word: object) -> str:
    """Returns a word for a shell; one that would steer a terminal, or end a line, as bash and zsh read it: $'\\x1b'."""
    text = f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)
    if printable(text) == text and "\n" not in text and "\t" not in text:
        return shlex.quote(text)
    plain = re.sub(rb"[^ -&(-[\]-~]", lambda found: rb"\x%02x" % found[0][0], text.encode("utf-8", AS_READ))
    return f"$'{plain.decode()}'"


def watch_command(experiment: object) -> str:
    """Returns the command that shows a search in a browser while it runs, wherever its folder can be read."""
    return command("report", experiment, "--watch")


def from_here(place: object) -> object:
    """Returns a path as it is called from the working directory if it lies below that, and else as it is."""
    here = Path.cwd()
    return place.relative_to(here) if isinstance(place, Path) and place.is_relative_to(here) else place
