import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.names import dns_label, label_value

EXPERIMENTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@given(EXPERIMENTS, st.integers(min_value=16, max_value=63))
def test_every_experiment_gets_a_legal_dns_label(name: str, longest: int) -> None:
    label = dns_label(name, longest=longest)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", label)
    assert len(label) <= longest


@given(EXPERIMENTS, EXPERIMENTS)
def test_two_experiments_never_share_a_label(one: str, other: str) -> None:
    assert (dns_label(one, longest=30) == dns_label(other, longest=30)) == (one == other)


@given(EXPERIMENTS)
def test_every_experiment_gets_a_legal_label_value(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", label_value(name))


@pytest.mark.parametrize("name", ["demo-1", "a", "x" * 47])
def test_a_name_that_is_a_label_stays_as_it_is(name: str) -> None:
    assert dns_label(name, longest=47) == name


def test_names_that_differ_in_case_only_get_different_labels() -> None:
    assert len({dns_label(name, longest=40) for name in ("demo", "Demo", "DEMO", "demo.", "demo_")}) == 5
