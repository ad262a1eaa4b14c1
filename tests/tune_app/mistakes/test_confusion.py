import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sklearn_matrix

from tune_app.mistakes.confusion import (
    ACROSS,
    confusion_matrix,
    confusions,
    errors_by_group,
    hardest,
    mutual_confusions,
    shares,
)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels and predictions in which some classes may be missing."""
    classes = draw(st.integers(2, 6))
    pairs = draw(st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), min_size=1, max_size=40))
    labels, predicted = np.array(pairs).T
    return labels, predicted, classes


@given(predictions())
def test_the_matrix_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    labels, predicted, classes = case
    expected = sklearn_matrix(labels, predicted, labels=range(classes))
    np.testing.assert_array_equal(confusion_matrix(labels, predicted, classes), expected)


@given(predictions())
def test_shares_are_those_of_scikit_learn(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    labels, predicted, classes = case
    expected = sklearn_matrix(labels, predicted, labels=range(classes), normalize="true")
    np.testing.assert_allclose(shares(confusion_matrix(labels, predicted, classes)), expected)


@given(predictions())
def test_confusions_hold_every_error_once_the_most_frequent_first(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    labels, predicted, classes = case
    found = confusions(confusion_matrix(labels, predicted, classes))
    assert {(c.label, c.predicted): c.count for c in found} == {
        (i, j): n
        for i in range(classes)
        for j in range(classes)
        if i != j and (n := int(((labels == i) & (predicted == j)).sum()))
    }
    assert [c.count for c in found] == sorted((c.count for c in found), reverse=True)
    assert all(c.share == pytest.approx(c.count / (labels == c.label).sum()) for c in found)


@given(predictions())
def test_pairs_of_classes_hold_every_error_once_both_ways_together(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    labels, predicted, classes = case
    found = mutual_confusions(confusion_matrix(labels, predicted, classes))
    between = {
        frozenset((i, j)): int(((labels == i) & (predicted == j)).sum() + ((labels == j) & (predicted == i)).sum())
        for i in range(classes)
        for j in range(i)
    }
    assert {frozenset((m.first, m.second)): m.count for m in found} == {p: n for p, n in between.items() if n}
    assert sum(m.count for m in found) == (labels != predicted).sum()
    assert [m.count for m in found] == sorted((m.count for m in found), reverse=True)
    for m in found:
        assert m.forth == ((labels == m.first) & (predicted == m.second)).sum() >= m.back
        assert m.share == pytest.approx(m.count / np.isin(labels, (m.first, m.second)).sum())


@given(predictions(), st.data())
def test_errors_of_groups_sum_to_all_errors(case: tuple[np.ndarray, np.ndarray, int], data: st.DataObject) -> None:
    labels, predicted, classes = case
    groups = data.draw(st.lists(st.sampled_from(["x", "y", "z"]), min_size=classes, max_size=classes))
    errors = errors_by_group(confusion_matrix(labels, predicted, classes), groups)
    expected = dict.fromkeys([*groups, ACROSS], 0)
    for label, given_class in zip(labels, predicted, strict=True):
        if label != given_class:
            same = groups[label] == groups[given_class]
            expected[groups[label] if same else ACROSS] += 1
    assert errors == expected


def test_the_hardest_classes_take_part_in_most_errors() -> None:
    matrix = np.diag([10, 10, 10, 10, 10])
    matrix[1, 3], matrix[4, 3], matrix[0, 2] = 5, 4, 1
    assert hardest(matrix, 2).tolist() == [1, 3]
    assert hardest(matrix, 3).tolist() == [1, 3, 4]
    assert hardest(matrix, 99).tolist() == [0, 1, 2, 3, 4]
