"""A report from an experiment's folder: as one page, or as one image for each figure."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from trainables.errors import ConfigError
from trainables.storage import StoragePath, refuse_file, refuse_folder, replace
from tune_app.ledger.baseline import caveat
from tune_app.ledger.folder import ExperimentFolder
from tune_app.report.contents import READING, Contents, read_contents
from tune_app.report.images import Format, write_images
from tune_app.report.page import render
from tune_app.report.section import Section
from tune_app.report.sections import SECTIONS, sections_of
from tune_app.terminal.progress import counting


def build_report(folder: ExperimentFolder, *, extra: Sequence[Section] = (), watch: str = "") -> str:
    """Returns the page of an experiment as it is now, running, finished or interrupted.

    The sections of other modules, `extra`, come before the provenance; `watch` is as in `page.render`.

    Raises:
        CorruptFile: the stored spec, the baseline or a test result is damaged.
        StorageUnavailable: a file cannot be read.
    """
    with counting("report", total=READING + len(SECTIONS) + 1) as advance:
        contents = read_contents(folder, advance=advance)
        page = render(contents, all_sections(contents, extra, advance=advance), now=datetime.now(UTC), watch=watch)
        advance(1)
    return page


def write_report(folder: ExperimentFolder, output: StoragePath, *, extra: Sequence[Section] = ()) -> int:
    """Writes the page in one step and returns its bytes.

    Raises:
        ConfigError: the output is a folder, or no .html file.
        CorruptFile, StorageUnavailable: as in `build_report`, or the file cannot be written.
    """
    refuse_folder(output, such_as="report.html")
    if output.suffix.lower() not in {".html", ".htm"}:
        raise ConfigError(f"a report is an .html file, but got {str(output)!r}: name one, such as report.html.")
    content = build_report(folder, extra=extra).encode()
    replace(output, content)
    return len(content)


def write_figures(folder: ExperimentFolder, target: StoragePath, form: Format) -> list[str]:
    """Writes every figure that shows something into a folder, in light colors; returns the names of the files.

    Raises:
        ConfigError: the target is a file, there is no browser to draw with, or it does not draw.
        CorruptFile, StorageUnavailable: as in `build_report`, or the folder cannot be written.
    """
    refuse_file(target)
    with counting("report", total=READING + len(SECTIONS)) as advance:
        contents = read_contents(folder, advance=advance)
        sections = sections_of(contents, advance=advance)
    figures = [figure for section in sections for figure in section.figures]
    return write_images(figures, target, form, caveat=caveat(contents.spec))


def all_sections(
    contents: Contents, extra: Sequence[Section] = (), *, advance: Callable[[int], None] | None = None
) -> list[Section]:
    """Returns the sections of the experiment with those of other modules, provenance last; `advance` is as in
    `sections_of`."""
    *first, last = sections_of(contents, advance=advance)
    return [*first, *extra, last]
