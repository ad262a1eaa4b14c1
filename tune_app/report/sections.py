"""The sections of a report, made from what an experiment holds."""

from collections.abc import Callable

from tune_app.report.chosen import chosen_info, draw_chosen
from tune_app.report.contents import Contents
from tune_app.report.coordinates import coordinates_info, draw_coordinates
from tune_app.report.curves import curves_info, draw_curves
from tune_app.report.failed import draw_failed, failed_info
from tune_app.report.failed import words as failed_words
from tune_app.report.figure import numbered
from tune_app.report.importance import draw_importance, importance_info
from tune_app.report.overview import environments
from tune_app.report.pareto import pareto_info
from tune_app.report.pareto_figure import draw_pareto
from tune_app.report.rungs import draw_rungs, rung_pairs
from tune_app.report.section import Section
from tune_app.report.sizes import draw_sizes, sizes_info
from tune_app.report.templates import fill
from tune_app.report.timeline import draw_timeline, timeline_info
from tune_app.report.volume import draw_volume, volume_info
from tune_app.terminal.shell import command

EXPLORE = "trials"
"""The name of the section of the linked figures, which the page joins with the table."""


def sections_of(contents: Contents, *, advance: Callable[[int], None] | None = None) -> list[Section]:
    """Returns all sections that have something to say of this experiment; `advance` is told after each one."""
    found = []
    for make in SECTIONS:
        section = make(contents)
        if section is not None:
            found.append(section)
        if advance is not None:
            advance(1)
    return found


def explore(contents: Contents) -> Section:
    """Returns the section of the Pareto plot and the parallel coordinates."""
    figures = (draw_pareto(pareto_info(contents)), draw_coordinates(coordinates_info(contents)))
    return Section(EXPLORE, "Trials", figures)


def search(contents: Contents) -> Section:
    """Returns the section on how the search went: hypervolume and importances."""
    figures = (*draw_volume(volume_info(contents)), draw_importance(importance_info(contents)))
    return Section("search", "Search", figures)


def sizes(contents: Contents) -> Section | None:
    """Returns the section on the bytes of the frontier."""
    info = sizes_info(contents)
    return Section("sizes", "Sizes", (draw_sizes(info),)) if info.labels else None


def training(contents: Contents) -> Section | None:
    """Returns the section of training curves, of the chosen trial and of the frontier."""
    chosen = draw_chosen(chosen_info(contents))
    figures = numbered([*([chosen] if chosen else []), *draw_curves(curves_info(contents))])
    return Section("training", "Training", figures) if figures else None


def rungs(contents: Contents) -> Section | None:
    """Returns the section on the rank correlation of rungs; None in a search without them."""
    figures = numbered(draw_rungs(pairs) for pairs in rung_pairs(contents))
    words = "How well a shorter schedule foretells the next one; points on the dotted line have the same value at both."
    return Section("rungs", "Rungs", figures, words) if figures else None


def timeline(contents: Contents) -> Section:
    """Returns the section of trials and stages over time."""
    return Section("timeline", "Timeline", (draw_timeline(timeline_info(contents)),))


def failures(contents: Contents) -> Section:
    """Returns the section of trials without a result."""
    info = failed_info(contents)
    if not info.reasons:
        return Section("failures", "Failures", words=failed_words(info))
    html = fill("report/web/failed.html.j2", reasons=info.reasons, suspects=info.suspects)
    return Section("failures", "Failures", (draw_failed(info),), html=html)


def provenance(contents: Contents) -> Section:
    """Returns the section on where the numbers come from, and how to have them again."""
    place, name = str(contents.folder.path), contents.spec.name
    label = "LABEL" if not contents.frontier else contents.handle(contents.row_of(contents.frontier[0]))
    facts = [("data set", contents.spec.base.data.name)]
    if contents.baseline is not None:
        facts += [("data fingerprint", contents.baseline.fingerprint), ("baseline stage", contents.baseline.key)]
    html = fill(
        "report/web/provenance.html.j2",
        environments=environments(contents),
        facts=[("experiment", place), *facts],
        commands=[
            command("run", f"{name}.yaml"),
            command("reproduce", place, label),
            command("report", place),
        ],
        spec=contents.spec_text,
        name=name,
    )
    return Section("provenance", "Provenance", html=html)


SECTIONS: tuple[Callable[[Contents], Section | None], ...] = (
    explore,
    search,
    sizes,
    training,
    rungs,
    timeline,
    failures,
    provenance,
)
