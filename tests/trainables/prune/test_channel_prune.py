from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import trainables.prune.channel_prune as channel_prune
from tests.trainables.factories import few_digits, inner_groups, make_architecture, make_context, make_model, make_prune
from trainables.config import IMPORTANCE, MODELS, ChannelPrune, Schedule
from trainables.errors import InfeasiblePoint
from trainables.models.model import Model
from trainables.models.units import units
from trainables.prune.channels import prune_frac_achieved
from trainables.prune.plan import plan_channels
from trainables.stages.saved_epochs import SavedEpoch, SavedEpochs
from trainables.stages.stage import StageResult, run_stage
from trainables.train.batch_norm import reestimate_batch_norm_
from trainables.train.loop import evaluated

WHOLE_NETWORKS = True
TWO = Schedule(epochs=2, lr=0.02, batch_size=40)


def run(
    config: ChannelPrune, *, name: str = "mobilenet_v2", saved_epochs: SavedEpochs | None = None, **arch: Any
) -> StageResult:
    state = make_model(name, **arch).state_dict()
    parent = StageResult(make_architecture(name, **arch), None, state, {})
    return run_stage(config, make_context(few_digits(), saved_epochs, parent_result=parent))


def test_the_stage_prunes_its_parent_and_says_what_it_kept() -> None:
    result = run(make_prune(0.5))
    assert result.plan == plan_channels(make_model(), make_prune(0.5))
    assert result.architecture.widths == {name: len(kept) for name, kept in result.plan.items()}
    assert result.model().state_dict().keys() == make_model().state_dict().keys()
    [row] = result.history
    assert row == {
        "step": 1,
        "prune_frac_requested": 0.5,
        "prune_frac_achieved": result.metrics["prune_frac_achieved"],
        "channels": sum(map(len, result.plan.values())),
        "accuracy_pruned": result.metrics["val_accuracy"],
        "accuracy_fine_tuned": result.metrics["val_accuracy"],
        "val_accuracy": result.metrics["val_accuracy"],
        "val_loss": pytest.approx(evaluated(result.model(), make_context(few_digits()).val)["val_loss"]),
    }


def test_requested_and_achieved_fractions_are_both_told() -> None:
    exact, rounded = (run(make_prune(0.4, round_to=multiple)).metrics for multiple in (1, 16))
    assert exact["prune_frac_requested"] == rounded["prune_frac_requested"] == 0.4
    assert exact["prune_frac_achieved"] == pytest.approx(0.4, abs=0.01)
    assert 0.35 < rounded["prune_frac_achieved"] < 0.45
    assert rounded["prune_frac_achieved"] != exact["prune_frac_achieved"]
    assert exact["val_accuracy"] == exact["val_accuracy_pruned"]


def test_kept_weights_are_the_parents() -> None:
    result = run(make_prune(0.5, head=True))
    before, after = units(make_model()), units(result.model())
    for group in inner_groups(make_model()):
        kept = result.plan[group.name]
        assert torch.equal(after[group.source].layer.weight, before[group.source].layer.weight[kept])
        for sink in (part.node for part in group.sinks):
            assert torch.equal(after[sink].layer.weight, before[sink].layer.weight[:, kept])


def test_batch_norm_is_measured_again_after_a_prune_step() -> None:
    result = run(make_prune(0.5))
    again = result.model()
    reestimate_batch_norm_(again, make_context(few_digits()).train.batches(128))
    for name, statistic in again.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            assert torch.allclose(statistic, result.state[name], rtol=0.2, atol=0.2 * float(statistic.abs().max()))


def test_every_score_after_the_first_is_read_with_batch_norm_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def spy(model: Model, *args: Any, **named: Any) -> Mapping[str, list[int]]:
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        seen.append([int(norm.num_batches_tracked) for norm in norms])
        return plan_channels(model, *args, **named)

    monkeypatch.setattr(channel_prune, "plan_channels", spy)
    run(make_prune(0.6, steps=3, step_epochs=0))
    batches = make_context(few_digits()).train.batch_count(128)
    assert [set(counts) for counts in seen] == [{0}, {batches}, {batches}]


def test_each_step_but_the_last_trains_for_its_own_epochs() -> None:
    result = run(make_prune(0.6, steps=3, step_epochs=1, fine_tune=TWO), width=0.1)
    assert [(row["step"], row["epoch"]) for row in result.history] == [(1, 1), (2, 1), (3, 1), (3, 2)]
    fractions = [row["prune_frac_achieved"] for row in result.history]
    assert fractions[:3] == pytest.approx([0.2, 0.4, 0.6], abs=0.02)
    assert fractions[-1] == result.metrics["prune_frac_achieved"]
    assert result.metrics["val_accuracy"] == result.history[-1]["val_accuracy"]


def test_every_step_says_what_it_left_and_what_that_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    monkeypatch.setattr(channel_prune, "evaluate", lambda model, images: next(shares))
    monkeypatch.setattr(channel_prune, "evaluated", lambda model, images: {"val_accuracy": next(shares)})
    result = run(make_prune(0.6, steps=3, step_epochs=1, fine_tune=TWO), width=0.1)
    first, second, before_last, last = result.history
    requested = [row["prune_frac_requested"] for row in (first, second, last)]
    assert requested == pytest.approx([0.2, 0.4, 0.6])
    assert first["channels"] > second["channels"] > last["channels"] == sum(map(len, result.plan.values()))
    found = [(row["accuracy_pruned"], row["accuracy_fine_tuned"]) for row in (first, second, before_last, last)]
    assert found == [(0.1, 0.2), (0.3, 0.4), (0.5, 0.6), (0.5, 0.6)]
    assert (result.metrics["val_accuracy_pruned"], result.metrics["val_accuracy"]) == (0.5, 0.6)


@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_steps_without_training_end_at_the_same_channels_by_weights(scope: str) -> None:
    # Means of the groups change from step to step, so a global ranking may end with other groups.
    plans = [run(make_prune(0.6, steps=steps, step_epochs=0, scope=scope)).plan for steps in (1, 3)]
    sizes = [sum(map(len, plan.values())) for plan in plans]
    assert sizes[0] == sizes[1]
    assert plans[0] == plans[1] or scope == "global"


def test_the_plan_names_channels_of_the_parent() -> None:
    result = run(make_prune(0.6, steps=3, step_epochs=1, fine_tune=Schedule(epochs=0, lr=1e-9)), width=0.1)
    before, after = units(make_model(width=0.1)), units(result.model())
    for name, kept in result.plan.items():
        found, expected = after[f"{name}.expand"].layer.weight, before[f"{name}.expand"].layer.weight[kept]
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", IMPORTANCE.names())
@pytest.mark.parametrize("scope", ["uniform", "global"])
@pytest.mark.parametrize("family", sorted(MODELS.names()))
def test_every_criterion_prunes_in_steps(family: str, scope: str, name: str) -> None:
    config = make_prune(
        0.5, importance=name, scope=scope, head=True, round_to=None, steps=2, min_channels=3, importance_images=64
    )
    config = config.model_copy(update={"step_epochs": 0})
    result = run(config, name=family)
    assert result.metrics["prune_frac_achieved"] == pytest.approx(0.5, abs=0.02)
    assert result.metrics["prune_frac_achieved"] == prune_frac_achieved(result.architecture)
    assert set(result.plan) == {group.name for group in inner_groups(make_model(family))}


def test_a_point_without_a_legal_network_is_infeasible() -> None:
    with pytest.raises(InfeasiblePoint, match="min_channels"):
        run(make_prune(0.5, scope="global", min_channels=100))


class Killed(Exception):
    """Stands for SIGKILL right after a checkpoint was written."""


class MortalEpochs(SavedEpochs):
    """Dies after a number of checkpoints, plans included."""

    def __init__(self, folder: Path, lives: list[int]) -> None:
        super().__init__(folder)
        self._here, self._lives = folder, lives

    def phase(self, number: int) -> SavedEpochs:
        return MortalEpochs(self._here / f"phase-{number:03d}", self._lives)

    def save(self, saved: SavedEpoch) -> None:
        super().save(saved)
        self._lives[0] -= 1
        if self._lives[0] == 0:
            raise Killed


def without_time(result: StageResult) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


def test_a_killed_stage_ends_as_one_that_was_left_alone_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[float] = []

    def spy(model: Model, config: ChannelPrune, **named: Any) -> Mapping[str, list[int]]:
        planned.append(config.prune_frac)
        return plan_channels(model, config, **named)

    config = make_prune(0.5, importance="bn_taylor", scope="global", steps=2, fine_tune=TWO, min_channels=4)
    whole = run(config, width=0.1)
    monkeypatch.setattr(channel_prune, "plan_channels", spy)
    kills = 0
    while True:  # each life ends at the next checkpoint: plan, epoch, plan, epoch, epoch
        try:
            found = run(config, saved_epochs=MortalEpochs(tmp_path, [1]), width=0.1)
        except Killed:
            kills += 1
        else:
            break
    assert kills == 5
    assert planned == [0.25, 0.5]
    assert found.plan == whole.plan
    assert list(found.architecture.widths.items()) == list(whole.architecture.widths.items())
    assert found.metrics == whole.metrics
    assert without_time(found) == without_time(whole)
    assert all(torch.equal(tensor, found.state[name]) for name, tensor in whole.state.items())


def test_the_result_follows_the_seed() -> None:
    parent = StageResult(make_architecture(), None, make_model().state_dict(), {})
    config = make_prune(0.5, importance="random")
    plans = [run_stage(config, make_context(few_digits(), seed=s, parent_result=parent)).plan for s in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]
