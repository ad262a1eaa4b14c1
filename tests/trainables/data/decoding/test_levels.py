import numpy as np
import pytest

from trainables.data.decoding.levels import levels
from trainables.errors import ConfigError

REAL = np.linspace(0, 1, 12).reshape(3, 1, 2, 2)


def test_eight_bits_stay_and_of_sixteen_the_upper_ones_count() -> None:
    small = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert levels(small, "images") is small
    large = np.arange(65_536, dtype=np.uint16).reshape(4, 1, 128, 128)
    found = levels(large, "images")
    assert (found.dtype, found.shape) == (np.uint8, large.shape)
    assert np.array_equal(found, np.rint(large / 257))


@pytest.mark.parametrize(
    ("images", "way_out"),
    [
        (REAL, "(images * 255).round().astype(numpy.uint8)"),
        (REAL.astype(np.float32), "(images * 255).round().astype(numpy.uint8)"),
        (REAL * 255, "save images.round().astype(numpy.uint8)"),
        (REAL * 2 - 1, "((images + 1) * 127.5).round().astype(numpy.uint8)"),
        ((REAL * 255).astype(np.int64), "save images.astype(numpy.uint8)"),
        ((REAL * 4095).astype(np.int32), "save images.astype(numpy.uint16)"),
        (REAL > 0.5, "(images * 255).astype(numpy.uint8)"),
        ((REAL - 0.45) / 0.22, "((images * std + mean) * 255).round().clip(0, 255).astype(numpy.uint8)"),
    ],
)
def test_the_conversion_that_fits_is_named_and_gives_what_is_taken(images: np.ndarray, way_out: str) -> None:
    with pytest.raises(
        ConfigError, match=f"ant images are {images.dtype}, but pixels must be uint8 or uint16"
    ) as caught:
        levels(images, "ant images")
    message = str(caught.value)
    assert way_out in message
    assert "\n" not in message
    formula = message.partition("save ")[2].rstrip(".")
    made = eval(formula, {"images": images, "numpy": np, "std": 0.22, "mean": 0.45})
    assert levels(made, "images").dtype == np.uint8
    assert made.max() == {True: 255, False: 4095}[made.dtype == np.uint8]


def test_numbers_that_are_none_are_said() -> None:
    with pytest.raises(ConfigError, match="values from nan to nan; mend those"):
        levels(np.array([np.nan, 1.0]), "images")
    with pytest.raises(ConfigError, match="save them as numbers from 0 to 255"):
        levels(np.array(["a"]), "images")
