"""Experiment: one search as an object, from its spec or its folder."""

import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from search_spaces.parameters import Value
from trainables.errors import ConfigError
from trainables.storage import StoragePath
from tune_app.api.html import experiment_html
from tune_app.api.live import EVERY_S, in_notebook, shown
from tune_app.api.point import Point, named, picked
from tune_app.engine.stop_signal import passing_on
from tune_app.findings.pick import Wish, pick
from tune_app.findings.summary import ExperimentSummary, summarize
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.reading import find_trial
from tune_app.run.outcome import changed_by_others
from tune_app.run.request import engine_for, start_from, with_trials
from tune_app.run.search import run_search
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import resolved
from tune_app.tables.epochs import epoch_frame
from tune_app.tables.query import frontier_frame
from tune_app.terminal.progress import console as quiet_console
from tune_app.terminal.shell import from_here

if TYPE_CHECKING:
    import pandas as pd

    from trainables.data.data_sets import DataSet


class Experiment:
    """One search: started, gone on with, followed and read, by the functions of `tune-app run`, `frontier`, `pick`.

    All that is read is read anew at each call, also while a search runs here or in another process. A notebook shows
    an experiment as a small page.
    """

    def __init__(self, place: "str | StoragePath | ExperimentSpec") -> None:
        """Opens the experiment of a spec, which need not have begun, or one that is there by its folder or URI.

        Raises:
            ConfigError: the place holds no experiment, or a file that the spec names cannot be read.
            StorageUnavailable: the object store does not answer, or a file has the place of the folder.
        """
        self._spec: ExperimentSpec | None = None
        if isinstance(place, ExperimentSpec):
            self._spec = resolved(place)
            self._folder = ExperimentFolder(self._spec.folder)
        else:
            found = ExperimentFolder.existing(place).path
            self._folder = ExperimentFolder(found.absolute())  # wherever the working directory will be

    @property
    def path(self) -> StoragePath:
        """The folder of the experiment."""
        return self._folder.path

    @property
    def spec(self) -> ExperimentSpec:
        """The spec that this was opened with, or else the stored one.

        Raises:
            CorruptFile: the stored spec is damaged.
        """
        return self._folder.read_spec() if self._spec is None else self._spec

    @property
    def is_running(self) -> bool:
        """Whether somebody works on the experiment, here or elsewhere, as far as one look into its folder tells."""
        return Lease(self._folder).is_taken

    def run(
        self,
        *,
        trials: int | None = None,
        in_process: bool = False,
        address: str = "",
        warm_start: "str | StoragePath | None" = None,
        retry_failed: bool = False,
        points: Sequence[Mapping[str, Value]] = (),
        console: Console | None = None,
    ) -> None:
        """Searches, or goes on where a search stopped, until the budget is spent, as `tune-app run` does.

        A notebook shows the experiment meanwhile. Ctrl-C, or "interrupt the kernel", ends the search in an orderly way
        and comes out as the KeyboardInterrupt that it always is; the same call goes on from the last epoch.

        Args:
            trials: another budget than the spec's.
            in_process: one trial after the other in this process, without Ray.
            address: of the head of a Ray cluster, as in `head:6379`; empty: RAY_ADDRESS, or else a Ray that is started
                here and ends with the search. A process that is connected to a Ray already stays with it.
            warm_start: the folder or URI of an experiment to learn from, whose results are taken over.
            retry_failed: trials run once more that an error or a lost worker ended.
            points: these configurations run alone, on the grid or not, as in `[{"w_bits": 4, "a_bits": 8}]`.
            console: where progress is written to, as in `rich.console.Console()`; None: nowhere.

        Raises:
            LeaseHeld: another driver works on this experiment.
            TuneAppError: see the leaves in `trainables.errors` and `tune_app.errors`.
        """
        spec = with_trials(self._here(), trials)
        search = partial(
            run_search,
            spec,
            engine=engine_for(in_process=in_process, address=address),
            warm_start=start_from(spec, warm_start),
            retry_failed=retry_failed,
            only=[dict(point) for point in points],
            console=quiet_console() if console is None else console,
        )
        with shown(self):
            outcome = passing_on(search)
        for line in changed_by_others(outcome):
            warnings.warn(line, stacklevel=2)
        outcome.check()

    def live(self) -> None:
        """Shows the experiment in a notebook, again and again until nobody works on it any more.

        For a search of another process; interrupting the kernel ends the view alone.

        Raises:
            ConfigError: this is no notebook.
        """
        if not in_notebook():
            raise ConfigError("live() shows an experiment in a notebook, and this is none: print summary() instead.")
        with shown(self):
            while self.is_running:
                time.sleep(EVERY_S)

    def frontier(self, *, where: str = "", sort: str = "", limit: int | None = None) -> "pd.DataFrame":
        """Reads the Pareto frontier, a row for each point, with the columns of docs/columns.md.

        Args:
            where: an SQL condition over the columns, as in "accuracy > 95% and w_bits = 4".
            sort: a column, or "-column" for falling order. Default: "size_bytes".
            limit: at most so many rows.

        Raises:
            ConfigError: there is no experiment yet, or the condition, the column or the limit is refused.
            CorruptFile: the stored spec is damaged.
        """
        return frontier_frame(self.path, where=where, sort=sort, limit=limit)

    def trials(self, *, where: str = "", sort: str = "", limit: int | None = None) -> "pd.DataFrame":
        """Reads all trials, a row for each; arguments and errors are those of `frontier`."""
        return frontier_frame(self.path, all=True, where=where, sort=sort, limit=limit)

    def epochs(self, trial: str = "") -> "pd.DataFrame":
        """Reads one row per epoch of each finished stage of one trial (its label or id, or `baseline`), or of all.

        Raises:
            ConfigError: there is no experiment yet, or no such trial.
            CorruptFile: the stored baseline is damaged.
        """
        return epoch_frame(self.path, trial)

    def summary(self) -> ExperimentSummary:
        """Returns best points, baseline, totals and findings; printed, it is what `tune-app summary` says.

        Raises:
            ConfigError: there is no experiment yet.
            CorruptFile: the stored spec or baseline is damaged.
        """
        return summarize(ExperimentFolder.existing(self.path))

    def pick(
        self,
        *,
        max_bytes: "int | str | None" = None,
        max_drop: "float | str | None" = None,
        min_ratio: "float | str | None" = None,
        where: str = "",
        knee: bool = False,
    ) -> Point:
        """Chooses a point of the frontier, as `tune-app pick` does.

        With a bound on the size the most accurate point that keeps it; with a bound on the drop the smallest; with
        both, with neither, or if asked for, the knee of what keeps them.

        Args:
            max_bytes: of the packed file, as a number or "50KB", "48KiB".
            max_drop: accuracy below the baseline's at most, as a share (0.01) or in percentage points ("1pp").
            min_ratio: how many times smaller than fp32 at least, as a number or "10x".
            where: an SQL condition, as in `frontier`.
            knee: whether the knee of what keeps the bounds is wanted.

        Raises:
            ConfigError: no point keeps the bounds, which names the nearest one, or there is none yet.
            CorruptFile: the stored spec or baseline is damaged, or the packed file of the chosen point is gone.
        """
        wish = Wish.read(max_drop=max_drop, max_bytes=max_bytes, min_ratio=min_ratio, where=where, knee=knee)
        folder = ExperimentFolder.existing(self.path)
        return picked(pick(folder, wish), folder)

    def point(self, trial: str) -> Point:
        """Finds the point of a complete trial by its label, such as `p30_w4_a8`, or its id.

        Raises:
            ConfigError: no trial or several are called so, or it has no packed file.
        """
        folder = ExperimentFolder.existing(self.path)
        return named(find_trial(folder, trial), folder)

    def data(self) -> "DataSet":
        """Loads the data set, with `train` and `val` as images (N, C, H, W) uint8 and labels (N,).

        Raises:
            ConfigError: it is not at hand, or not the one that the experiment began with.
        """
        from tune_app.artifacts.export import experiment_data

        return experiment_data(ExperimentFolder.existing(self.path))

    def _here(self) -> ExperimentSpec:
        """Returns the spec for a run in this folder, which may have been moved since the spec was stored.

        Raises:
            ConfigError: the folder has another name than its experiment.
        """
        spec, place = self.spec, self.path.resolve()
        if spec.folder.resolve() == place:
            return spec
        if place.name != spec.name:
            raise ConfigError(f"{place} holds the experiment {spec.name!r}: call the folder so to go on with it.")
        return spec.model_copy(update={"storage": str(place.parent)})

    def __repr__(self) -> str:
        return f"Experiment({str(from_here(self.path))!r})"

    def _repr_html_(self) -> str:
        return experiment_html(self._folder, self._spec)
