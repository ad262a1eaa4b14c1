"""`tune-app report`: an experiment as one page, or as images of its figures."""

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainables.errors import ConfigError
from tune_app.cli.options import RESULTS, Experiment
from tune_app.terminal.quantities import show_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.report.section import Section

app = typer.Typer()


@app.command(rich_help_panel=RESULTS, epilog="Example: tune-app report demo/demo --output demo.html")
def report(
    experiment: Experiment,
    output: Annotated[str, typer.Option(help="HTML file to write.  \\[default: report.html]")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Serve it here, and follow the search.")] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="For --watch.  \\[default: a free one]", show_default=False)
    ] = None,
    figures: Annotated[str, typer.Option(metavar="FOLDER", help="Write every figure as an image instead.")] = "",
    format: Annotated[
        Literal["png", "svg"] | None,
        typer.Option("--format", help="Of these images.  \\[default: png]", show_default=False),
    ] = None,
    failures: Annotated[
        list[str] | None, typer.Option(metavar="TRIAL", help="Add where this trial errs; may be given more than once.")
    ] = None,
) -> None:
    """Write one HTML file with all figures and trials; it needs no network and no other file."""
    if sum(map(bool, (output, watch, figures))) > 1:
        raise ConfigError("--output writes a file, --watch serves it, --figures draws images: choose one of them.")
    for option, value, other, given in (("--port", port, "--watch", watch), ("--format", format, "--figures", figures)):
        if value is not None and not given:
            raise ConfigError(f"{option} {value} is for {other}: give both, or neither.")
    if failures and figures:
        raise ConfigError("--failures adds to the page: `tune-app failures` draws that trial's figures.")
    from trainables.storage import storage_path
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.report.build import write_figures, write_report

    folder = ExperimentFolder.existing(experiment)
    if figures:
        for name in write_figures(folder, storage_path(figures), format or "png"):
            print(f"{figures}/{name}")
        return
    extra = [_failures(folder, number, trial) for number, trial in enumerate(failures or (), 1)]
    if watch:
        _serve(folder, port or 0, extra)
    else:
        target = output or "report.html"
        size = write_report(folder, storage_path(target), extra=extra)
        print(f"{target}: {show_size(size)}, one file for any browser")


def _failures(folder: "ExperimentFolder", number: int, trial: str) -> "Section":
    """Analyzes where a trial errs, as a section of the page."""
    from tune_app.mistakes.section import trial_section
    from tune_app.report.section import Section

    title, html = trial_section(folder, trial)
    return Section(f"errors-{number}", title, html=html)


def _serve(folder: "ExperimentFolder", port: int, extra: "Sequence[Section]") -> None:
    """Serves the page on this machine until Ctrl-C."""
    from tune_app.report.serve import ReportServer

    # Ctrl-C is its end from the moment that the address can be read.
    with contextlib.suppress(KeyboardInterrupt), ReportServer(folder, port=port, extra=extra) as server:
        print(f"{server.url} follows {folder.path}, on this machine alone; Ctrl-C ends it", file=sys.stderr, flush=True)
        server.wait()
