import pytest
from pydantic import ValidationError

from search_spaces.rungs import FULL, Rung, at_rung, bit_class
from trainables.config import (
    BaselineTrain,
    ChannelPrune,
    Freezing,
    PostTrainingQuant,
    QuantAwareTrain,
    QuantScheme,
    Schedule,
    TrialConfig,
    stage_keys,
)

ONE = Schedule(epochs=1, lr=0.1)
CONFIG = TrialConfig(
    baseline=BaselineTrain(schedule=ONE),
    prune=ChannelPrune(prune_frac=0.3, fine_tune=ONE),
    quantize=QuantAwareTrain(
        kind="qat",
        scheme=QuantScheme(w_bits=3),
        schedule=Schedule(epochs=9, lr=0.05, warmup_epochs=1),
        progressive_bits=(8,),
        freezing=Freezing(),
        calibration_images=64,
        bn_images=128,
    ),
)


def test_the_full_rung_is_the_configuration_itself() -> None:
    assert at_rung(CONFIG, None) is CONFIG


def test_without_epochs_the_last_stage_is_quantization_after_training() -> None:
    cheap = at_rung(CONFIG, Rung(name="ptq", qat_epochs=0))
    expected = PostTrainingQuant(scheme=QuantScheme(w_bits=3), calibration_images=64, bn_images=128)
    assert cheap == CONFIG.model_copy(update={"quantize": expected})


def test_a_short_rung_has_a_complete_schedule_of_its_own() -> None:
    short = at_rung(CONFIG, Rung(name="short", qat_epochs=3)).quantize
    assert isinstance(short, QuantAwareTrain)
    assert short.schedule == Schedule(epochs=3, lr=0.05, warmup_epochs=1)
    assert short.progressive_bits == ()
    assert short.freezing == Freezing()


def test_rungs_share_everything_but_the_last_stage() -> None:
    rungs = [None, Rung(name="short", qat_epochs=3), Rung(name="ptq", qat_epochs=0)]
    keys = [stage_keys(at_rung(CONFIG, rung), fingerprint="f") for rung in rungs]
    assert len({tuple(k[:-1]) for k in keys}) == 1
    assert len({k[-1] for k in keys}) == 3


def test_nothing_can_be_shortened_without_training() -> None:
    fixed = CONFIG.model_copy(update={"quantize": PostTrainingQuant()})
    with pytest.raises(ValueError, match=r"choose base\.quantize\.kind: qat"):
        at_rung(fixed, Rung(name="ptq", qat_epochs=0))


@pytest.mark.parametrize("name", ["", "Full", "a-b", "x" * 17, "a/b"])
def test_a_rung_has_a_plain_name(name: str) -> None:
    with pytest.raises(ValidationError):
        Rung(name=name, qat_epochs=1)
    assert FULL == "full"


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (QuantScheme(w_bits=2), 2),
        (QuantScheme(w_bits=8), 5),
        (QuantScheme(w_bits=32), 5),
        (QuantScheme(w_bits=8, w_bits_by_group={"head": 3}), 3),
        (QuantScheme(w_bits=4, w_bits_by_layer={"head": 8}), 4),
    ],
)
def test_the_class_is_that_of_the_narrowest_weights(scheme: QuantScheme, expected: int) -> None:
    quantize = CONFIG.quantize.model_copy(update={"scheme": scheme})
    assert bit_class(CONFIG.model_copy(update={"quantize": quantize})) == expected
