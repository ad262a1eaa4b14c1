import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from trainables.train.class_scores import class_scores, mean_score


@given(st.integers(2, 6), st.data())
def test_scores_are_those_of_scikit_learn(classes: int, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), min_size=1, max_size=40))
    labels, predicted = np.array(pairs).T
    precision, recall, f1, images = precision_recall_fscore_support(
        labels, predicted, labels=range(classes), zero_division=np.nan
    )
    counts = (np.bincount(x, minlength=classes) for x in (labels, predicted, labels[labels == predicted]))
    scores = class_scores(*counts)
    np.testing.assert_allclose(scores.precision, precision)
    np.testing.assert_allclose(scores.accuracy, recall)
    np.testing.assert_allclose(scores.f1, f1)
    np.testing.assert_array_equal(scores.images, images)


def test_a_mean_leaves_classes_without_a_score_out() -> None:
    assert mean_score(np.array([0.5, np.nan, 1.0])) == 0.75
    assert np.isnan(mean_score(np.array([np.nan])))
