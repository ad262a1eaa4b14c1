"""Networks of one's own as baselines: what fits the images begins a search, what does not is refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainables.factories import few_digits, make_context
from trainables.config import BaselineImport, BaselineTrain, BaselineUntrained, Schedule
from trainables.errors import ConfigError
from trainables.graph.network_file import network_bytes
from trainables.models.importing import captured_network
from trainables.stages.stage import run_stage
from trainables.storage import sha256


def small(channels: int = 1, classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    body = [nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.SiLU(), nn.AdaptiveAvgPool2d(2)]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(64, classes))


def written(folder: Path, module: nn.Module, channels: int = 1, size: int = 8) -> dict[str, Any]:
    """The fields of a baseline that uses the file of a captured module."""
    content = network_bytes(captured_network(module, (channels, size, size)))
    path = folder / "small.safetensors"
    path.write_bytes(content)
    return {"network": str(path), "network_sha256": sha256(content)}


def test_a_captured_network_is_trained(tmp_path: Path) -> None:
    fields, module = written(tmp_path, small()), small()
    schedule = Schedule(epochs=0, lr=0.1)
    result = run_stage(BaselineTrain(schedule=schedule, **fields), make_context(few_digits()))
    images = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(result.model().eval()(images), module.eval()(images))
    schedule = Schedule(epochs=8, lr=0.2, batch_size=20)
    learned = run_stage(BaselineTrain(schedule=schedule, **fields), make_context(few_digits()))
    assert learned.metrics["val_accuracy"] > 0.4


def test_an_imported_network_that_knows_nothing_is_refused(tmp_path: Path) -> None:
    fields = written(tmp_path, small())
    with pytest.raises(
        ConfigError, match=r"accuracy \d+\.\d % on 50 validation images, and chance is 10\.0 %: give the mean"
    ):
        run_stage(BaselineImport(kind="import", **fields), make_context(few_digits()))
    result = run_stage(BaselineUntrained(kind="untrained", **fields), make_context(few_digits()))
    assert result.architecture.model.graph


@pytest.mark.parametrize(
    ("module", "channels", "size", "says"),
    [
        (small(), 1, 16, "takes images of 1x16x16, but the data set has 1x8x8: set data.image_size"),
        (small(3), 3, 8, "takes images of 3x8x8, but the data set has 1x8x8"),
        (small(1, 7), 1, 8, "has 7 outputs, but the data set 10 classes"),
    ],
)
def test_a_network_for_other_images_is_refused(
    module: nn.Module, channels: int, size: int, says: str, tmp_path: Path
) -> None:
    fields = written(tmp_path, module, channels, size)
    with pytest.raises(ConfigError, match=says):
        run_stage(BaselineImport(kind="import", **fields), make_context(few_digits()))


def test_a_file_that_was_changed_or_is_gone_is_refused(tmp_path: Path) -> None:
    fields = written(tmp_path, small())
    path = Path(fields["network"])
    for spoil, says in (
        (lambda: path.write_bytes(network_bytes(captured_network(small(1, 7), (1, 8, 8)))), "has changed since"),
        (lambda: path.write_bytes(b"no network"), "is no captured network: make one with `tune-app capture`"),
        (path.unlink, "cannot read .* Restore the captured network"),
    ):
        spoil()
        with pytest.raises(ConfigError, match=says):
            run_stage(BaselineImport(kind="import", **fields), make_context(few_digits()))
