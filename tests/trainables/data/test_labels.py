import numpy as np
import pytest

from trainables.data.labels import class_labels
from trainables.errors import ConfigError


def test_classes_are_numbered_in_the_order_of_their_names() -> None:
    given = {"train": np.array(["cat", "ant", "bee"]), "test": np.array([b"bee", b"ant"])}
    labels, names = class_labels(given, "here")
    assert names == ("ant", "bee", "cat")
    assert {split: found.tolist() for split, found in labels.items()} == {"train": [2, 0, 1], "test": [1, 0]}
    assert all(found.dtype == np.int64 for found in labels.values())


def test_integers_are_classes_from_whatever_number_they_begin() -> None:
    labels, names = class_labels({"train": np.array([[10], [1], [5]], np.uint8)}, "here")
    assert (labels["train"].tolist(), names) == ([2, 0, 1], ("1", "5", "10"))


def test_integers_are_places_in_names_that_are_given() -> None:
    labels, names = class_labels({"train": np.array([2, 0])}, "here", ("ant", "bee", "cat"))
    assert (labels["train"].tolist(), names) == ([2, 0], ("ant", "bee", "cat"))


ONE = "one class per image is what this program compresses for"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.eye(3), f"3 values for each image, but {ONE}: save labels.argmax"),
        (np.array([[1, 1, 0]]), f"3 values for each image, but {ONE}: choose one class for each image"),
        (np.zeros((2, 8, 8), np.uint8), f"have the shape .2, 8, 8., as maps of classes do, but {ONE}"),
        (np.array([0.5, 1.2]), f"are float64, as targets of a regression are, but {ONE}"),
        (np.array(["a", None], object), f"partly missing or no text, but {ONE}"),
        (np.array([[1], [2]], object), "partly missing or no text"),
        (np.array(["2020-01-01"], "datetime64[D]"), "classes as integers or text"),
        (np.array(3), "classes as integers or text"),
    ],
)
def test_what_is_no_class_for_each_image_is_refused(labels: np.ndarray, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"here: labels.*{expected}") as caught:
        class_labels({"train": labels}, "here")
    assert "\n" not in str(caught.value)


def test_a_class_that_training_lacks_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="here: the test images have the class 'cow', which the training images do not"
    ):
        class_labels({"train": np.array(["ant"]), "test": np.array(["ant", "cow"])}, "here")
