"""The entry point `tune-app`: all commands, and the exit code of what ends them.

Commands import what is heavy where they need it, so that help stays fast.
"""

import itertools
import signal
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer

from cluster.errors import ClusterError
from trainables.errors import ConfigError, TuneAppError, UnexpectedError
from trainables.printable import printable
from tune_app.cli import clusters, epochs, failures, inspect, networks, report, results, search, start, tools, verify
from tune_app.engine.stop_signal import handled_by, raise_interrupted
from tune_app.errors import Interrupted
from tune_app.terminal.progress import Verbosity, set_verbosity, verbosity
from tune_app.terminal.shell import command
from tune_app.terminal.streams import OutputFailed, give_up_output, prepare_streams

OUTPUT_CLOSED = 141
"""128 + SIGPIPE, as a shell calls the end of a program whose output nobody reads any more: `tune-app … | head`."""
VERBOSITY = {"-v", "--verbose", "-q", "--quiet"}
"""Options that each command takes; none has another one of these names."""
INTERRUPTED = 128 + signal.SIGINT
"""The code with which Typer exits on Ctrl-C."""

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done · 1 a bug · 2 bad input · 3 storage or cluster does not answer · "
    "4 the work ended badly · 5 another driver holds the experiment · 6 damaged data · 130/143 stopped by a signal · "
    "141 nobody reads the output any more.",
)
for part in (search, start, clusters, results, failures, epochs, report, networks, inspect, verify, tools):
    app.add_typer(part.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tune-app {version('tune-app')}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More detail on standard error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors alone.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Search for the best small versions of a trained network: prune, quantize, pack, measure, on Ray."""
    if verbose and quiet:
        raise ConfigError("--verbose asks for more and --quiet for less: choose one of the two.")
    set_verbosity(Verbosity.DETAILED if verbose else Verbosity.QUIET if quiet else Verbosity.NORMAL)


def _verbosity_first(words: list[str]) -> list[str]:
    """Returns the words of a command line with options of all commands before the command, wherever they stood.

    The value of another option stays what it is: `--output -q` is a file.
    """
    if not VERBOSITY.intersection(words):
        return words
    first, others, left = list[str](), list[str](), iter(words)
    with_value = _with_value(typer.main.get_command(app))
    for word in left:
        (first if word in VERBOSITY else others).append(word)
        if word in with_value:
            others += itertools.islice(left, 1)
        if word == "--":
            others += left
    return [*first, *others]


def _with_value(command: Any) -> set[str]:
    """Returns the options that take a value, of a command and of those below it; none of these names is a flag too."""
    own = {name for option in command.params if not getattr(option, "is_flag", True) for name in option.opts}
    return own.union(*map(_with_value, getattr(command, "commands", {}).values()))


def main() -> None:
    """Runs the command line; an error of ours becomes one line on standard error and its exit code."""
    try:
        if sys.stdout is sys.__stdout__:  # and nobody looks at what is written in its place
            prepare_streams()
        try:
            with handled_by(raise_interrupted, signal.SIGTERM), handled_by(signal.default_int_handler, signal.SIGINT):
                app(args=_verbosity_first(sys.argv[1:]))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        give_up_output()
        sys.exit(OUTPUT_CLOSED)
    except SystemExit as end:
        # Typer and rich meet a closed pipe themselves, and exit with the code of a bug. On Ctrl-C they say nothing.
        if end.code == INTERRUPTED:
            print("stopped by SIGINT.", file=sys.stderr)
        sys.exit(OUTPUT_CLOSED if isinstance(end.__context__, BrokenPipeError) else end.code)
    except (TuneAppError, ClusterError) as err:
        if isinstance(err, OutputFailed):
            give_up_output()
        if isinstance(err, UnexpectedError) and verbosity() is Verbosity.DETAILED:
            print(printable(err.trace), end="", file=sys.stderr)
        print(f"error: {printable(str(err))}", file=sys.stderr)
        sys.exit(err.exit_code)
    except Interrupted as err:
        kept = f" Finished trials are kept; go on with: {command(*sys.argv[1:])}" if err.of_search else ""
        print(f"stopped by {err}.{kept}", file=sys.stderr)
        sys.exit(err.exit_code)
    except KeyboardInterrupt:  # outside of Typer
        print("stopped by SIGINT.", file=sys.stderr)
        sys.exit(INTERRUPTED)
