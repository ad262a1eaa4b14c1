"""The ways to search that the benchmark compares, each driven as its own users drive it."""

import random
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.made_results import completed
from benchmarks.search.simulator import Job, Policy, simulate
from benchmarks.search.table import Cell, Table
from search_spaces.rungs import FULL
from trainables.config import digest
from trainables.errors import State
from trainables.results import Failed, Failure, StageRun
from tune_app.frontier.pareto import non_dominated
from tune_app.ledger.ledger import Params, TrialRecord
from tune_app.search.candidates import MOST
from tune_app.search.proposer import Proposer
from tune_app.search.strategy import Step
from tune_app.spec.experiment import ExperimentSpec
from tune_app.surrogates.features import features


class Walk:
    """Every point with the full schedule, in a fixed order."""

    def __init__(self, points: Iterator[Params]) -> None:
        self._points = points

    def ask(self) -> Job | None:
        """The next point."""
        point = next(self._points, None)
        return None if point is None else Job(point, FULL)

    def tell(self, job: Job, cell: Cell) -> None:
        """Learns nothing."""


def ordered(table: Table, seed: int) -> Policy:
    """The grid from one end to the other; the seed changes nothing."""
    return Walk(iter(table.points))


def shuffled(table: Table, seed: int) -> Policy:
    """The grid in a random order."""
    return Walk(iter(random.Random(seed).sample(table.points, len(table.points))))


def uniform(table: Table, seed: int) -> Policy:
    """Independent draws: points come again."""
    draw = random.Random(seed)
    return Walk(iter(lambda: draw.choice(table.points), None))


class RayOptuna:
    """Ray's OptunaSearch: what it suggests runs in full, repeats and all."""

    def __init__(self, table: Table, sampler: Any) -> None:
        from optuna.distributions import CategoricalDistribution
        from ray.tune.search.optuna import OptunaSearch

        self._table = table
        modes = {"maximize": "max", "minimize": "min"}
        self._search = OptunaSearch(
            {name: CategoricalDistribution(p.values) for name, p in table.spec.space.root.items()},
            metric=list(table.spec.objectives),
            mode=[modes[d] for d in table.directions],
            sampler=sampler,
        )
        self._count = 0

    def ask(self) -> Job | None:
        """What it suggests."""
        token = str(self._count)
        self._count += 1
        return Job(self._search.suggest(token), FULL, token)

    def tell(self, job: Job, cell: Cell) -> None:
        """The objectives, or an error."""
        complete = cell.row["state"] == "complete"
        result = {name: cell.row[name] for name in self._table.spec.objectives} if complete else None
        self._search.on_trial_complete(str(job.token), result, error=not complete)


def _ray_optuna(sampler: str, table: Table, seed: int, **options: Any) -> Policy:
    """Ray's OptunaSearch with one of Optuna's samplers, by the name of its class."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return RayOptuna(table, getattr(optuna.samplers, sampler)(seed=seed, **options))


def ray_tpe(table: Table, seed: int) -> Policy:
    """Optuna's TPE with its defaults."""
    return _ray_optuna("TPESampler", table, seed)


def ray_nsga2(table: Table, seed: int) -> Policy:
    """Optuna's NSGA-II with its defaults."""
    return _ray_optuna("NSGAIISampler", table, seed)


def ray_multivariate_tpe(table: Table, seed: int) -> Policy:
    """Optuna's multivariate TPE, which takes running trials for bad ones."""
    return _ray_optuna("TPESampler", table, seed, multivariate=True, constant_liar=True)


def ray_gp(table: Table, seed: int) -> Policy:
    """Optuna's GPSampler with its defaults."""
    return _ray_optuna("GPSampler", table, seed)


class BoTorch:
    """BoTorch's qLogNEHVI on a Gaussian process of each objective, as its tutorial has it.

    It chooses among points that have not run, since the space is a list; running trials are its pending points.
    """

    def __init__(self, table: Table, seed: int) -> None:
        import torch

        torch.manual_seed(seed)
        self._table, self._seed = table, seed
        self._rows = torch.tensor(features(table.spec.space, table.points))
        columns = self._rows.shape[1]
        self._draw = random.Random(seed)
        self._first = self._draw.sample(range(len(table.points)), 2 * (columns + 1))
        self._running: list[int] = []
        self._values: dict[int, list[float]] = {}
        self._failed: set[int] = set()

    def ask(self) -> Job | None:
        """One of the first points, drawn at random, or what promises most."""
        place = self._first.pop() if self._first else self._best()
        if place is None:
            return None
        self._running.append(place)
        return Job(self._table.points[place], FULL, place)

    def tell(self, job: Job, cell: Cell) -> None:
        """The objectives, as costs whose signs are turned: it maximizes."""
        place = int(str(job.token))
        self._running.remove(place)
        if cell.row["state"] == "complete":
            self._values[place] = (-self._table.costs(cell.row)).tolist()
        else:
            self._failed.add(place)

    def _best(self) -> int | None:
        import torch
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.sampling import SobolQMCNormalSampler
        from gpytorch.mlls import SumMarginalLogLikelihood

        open_ones = self._choices()
        if not open_ones or not self._values:
            return open_ones[0] if open_ones else None
        seen = self._rows[list(self._values)]
        values = torch.tensor(list(self._values.values()), dtype=torch.float64)
        model = ModelListGP(*(SingleTaskGP(seen, column[:, None]) for column in values.T))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
            acquisition = qLogNoisyExpectedHypervolumeImprovement(
                model,
                ref_point=(-self._table.corner).tolist(),
                X_baseline=seen,
                X_pending=self._rows[self._running] if self._running else None,
                sampler=SobolQMCNormalSampler(torch.Size([128]), seed=self._seed),
                prune_baseline=True,
            )
            with torch.no_grad():
                promised = torch.cat([acquisition(part[:, None]) for part in self._rows[open_ones].split(64)])
        return open_ones[int(promised.argmax())]

    def _choices(self) -> list[int]:
        """All points that have not run; in a large space as many as ours draws, and all that lie near a good one.

        Those differ in one parameter from a point of the frontier.
        """
        taken = {*self._running, *self._values, *self._failed}
        open_ones = [place for place in range(len(self._rows)) if place not in taken]
        if len(open_ones) <= MOST:
            return open_ones
        seen = list(self._values)
        front = np.array(seen)[non_dominated(-np.array(list(self._values.values())))]
        rows = self._rows.numpy()
        near = np.flatnonzero(((rows[:, None] != rows[front]).sum(axis=2) == 1).any(axis=1)).tolist()
        drawn = self._draw.sample(open_ones, MOST)
        return [place for place in dict.fromkeys([*drawn, *near]) if place not in taken]


class MoAsha:
    """Syne Tune's MO-ASHA on the epochs of the full schedule, as its authors drive it.

    A trial that goes on keeps its worker, and its training. It is judged at the epochs of the lower rung, and goes on
    where it is among as large a share of the trials there as makes equal work of both rungs.

    Its own priority (0.16) gives the trials in their order where the place of each trial is asked for, so that it
    promotes others than the best; here it is given the places.
    """

    def __init__(self, table: Table, seed: int) -> None:
        from syne_tune.config_space import choice
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA
        from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import NonDominatedPriority

        class Places(NonDominatedPriority):  # type: ignore[misc]
            def priority_unsafe(self, objectives: np.ndarray) -> np.ndarray:
                return np.argsort(super().priority_unsafe(objectives))

        np.random.seed(seed)
        self._table = table
        rungs = table.spec.rungs
        self._lower = next(name for name, rung in rungs.items() if rung is not None and rung.qat_epochs)
        self._epochs = {self._lower: rungs[self._lower].qat_epochs, FULL: table.epochs}
        self._scheduler = MOASHA(
            {name: choice(list(range(len(p.values)))) for name, p in table.spec.space.root.items()},
            metrics=list(table.spec.objectives),
            time_attr="epochs",
            max_t=self._epochs[FULL],
            grace_period=self._epochs[self._lower],
            reduction_factor=self._epochs[FULL] / self._epochs[self._lower],
            multiobjective_priority=Places(),
            random_seed=seed,
        )
        self._going_on: deque[Job] = deque()
        self._count = 0

    def ask(self) -> Job | None:
        """A trial that goes on, else a new one."""
        import datetime

        from syne_tune.backend.trial_status import Trial

        if self._going_on:
            return self._going_on.popleft()
        trial = Trial(self._count, self._scheduler.suggest().config, datetime.datetime.now())
        self._count += 1
        self._scheduler.on_trial_add(trial)
        point = {name: p.values[trial.config[name]] for name, p in self._table.spec.space.root.items()}
        return Job(point, self._lower, trial)

    def tell(self, job: Job, cell: Cell) -> None:
        """Its values, which it minimizes; it says whether the trial goes on."""
        if cell.row["state"] != "complete":
            return
        values = dict(zip(self._table.spec.objectives, self._table.costs(cell.row).tolist(), strict=True))
        decision = self._scheduler.on_trial_result(job.token, {**values, "epochs": self._epochs[job.rung]})
        if decision == "CONTINUE" and job.rung != FULL:
            self._going_on.append(Job(job.params, FULL, job.token))


class Ours:
    """The product's own proposer, fed with records made of the table's rows."""

    def __init__(self, table: Table, spec: ExperimentSpec, advice: Sequence[TrialRecord] = ()) -> None:
        self._table = table
        self._epochs = {name: 1 if rung is None else max(1, rung.qat_epochs) for name, rung in spec.rungs.items()}
        self._epochs[FULL] = table.epochs
        self._proposer = Proposer(
            spec,
            key_of=lambda p, _=0: digest(dict(p)),
            steps_of=self._steps,
            reference=table.reference,
            advice=advice,
        )

    @property
    def records(self) -> list[TrialRecord]:
        """What has ended."""
        return self._proposer.records

    def ask(self) -> Job | None:
        """What the product would run."""
        work = self._proposer.next()
        return None if work is None else Job(work.params, work.rung, work.trial_id)

    def tell(self, job: Job, cell: Cell) -> None:
        """The record of the trial."""
        [work] = [w for w in self._proposer.running if w.trial_id == job.token]
        row = cell.row
        complete = row["state"] == "complete"
        stages = [
            StageRun(kind=step.kind, key=step.key, seconds=stage.seconds, cached=False)
            for step, stage in zip(self._steps(work.params, work.rung), cell.stages, strict=True)
        ]
        record = TrialRecord(
            assignment=work,
            result=completed(row, stages) if complete else _failed(row["state"], row["reason"]),
            environment={},
            started_at="",
            seconds=sum(stage.seconds for stage in cell.stages),
        )
        self._proposer.tell(record)

    def _steps(self, params: Params, rung: str) -> list[Step]:
        """The stages of a cell, as the product names them."""
        own = Step("ptq" if rung == "ptq" else "qat", digest([dict(params), rung]), self._epochs[rung])
        shared = [Step(str(stage.key[0]), repr(stage.key), 4) for stage in self._table.cell(params, rung).stages[:-1]]
        return [*shared, own]


def ours(table: Table, seed: int, *, advice: Sequence[TrialRecord] = (), **changes: Any) -> Ours:
    """What a spec gets that names no sampler and no rungs; `changes` replace its fields.

    The budget is for all points but one, since for all of them it would need no rungs.
    """
    fields = {
        "budget": {"trials": table.spec.space.size - 1},
        "sampler": {"seed": seed},
        "fidelity": "auto",
        **changes,
    }
    return Ours(table, ExperimentSpec.model_validate({**table.spec.model_dump(), **fields}), advice)


def in_full(table: Table, seed: int) -> Policy:
    """The same without rungs."""
    return ours(table, seed, fidelity=None)


def warm_started(table: Table, seed: int, other: Table) -> Ours:
    """The same with advice: what a search of another base found until 99 % of the hypervolume there."""
    earlier = ours(other, seed)
    simulate(earlier, other, workers=4, cache=True, target=0.99 * other.volume)
    return ours(table, seed, advice=earlier.records)


Make = Callable[..., Policy]


def _failed(state: State, reason: str) -> Failed:
    kind, _, message = reason.partition(": ")
    return Failed(failure=Failure(kind=kind, state=state, stage="", message=message), stages=[])
