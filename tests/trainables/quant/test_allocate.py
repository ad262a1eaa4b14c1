"""Bits per layer: the budget holds, and what is chosen is the best."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.config import AutoBits, QuantScheme
from trainables.errors import InfeasiblePoint
from trainables.quant.allocate import Choice, allocate, by_dp, by_greed, read_table, to_metrics

WIDTHS = (2, 4, 8)
Costs = tuple[float, float]


def make_table(layers: list[list[Costs]]) -> dict[str, list[Choice]]:
    """KL falls and bytes rise with the width."""
    return {
        f"blocks.{i}.expand": [
            Choice(bits, kl, size)
            for bits, kl, size in zip(
                WIDTHS, sorted((c[0] for c in costs), reverse=True), sorted(c[1] for c in costs), strict=True
            )
        ]
        for i, costs in enumerate(layers)
    }


TABLES = st.lists(
    st.lists(st.tuples(st.floats(0, 5), st.floats(1, 1000)), min_size=3, max_size=3), min_size=1, max_size=4
).map(make_table)


def totals(table: dict[str, list[Choice]], bits: dict[str, int]) -> Costs:
    chosen = [next(c for c in choices if c.bits == bits[name]) for name, choices in table.items()]
    return sum(c.kl for c in chosen), sum(c.size_bytes for c in chosen)


def best(table: dict[str, list[Choice]], budget: float) -> float:
    """By trying everything."""
    fitting = [
        sum(c.kl for c in point)
        for point in itertools.product(*table.values())
        if sum(c.size_bytes for c in point) <= budget
    ]
    return min(fitting)


@given(TABLES, st.floats(0, 1))
def test_dynamic_programming_finds_the_best_within_the_budget(table: dict[str, list[Choice]], share: float) -> None:
    least = sum(choices[0].size_bytes for choices in table.values())
    most = sum(choices[-1].size_bytes for choices in table.values())
    budget = least + share * (most - least)
    kl, size = totals(table, by_dp(table, budget))
    assert size <= budget
    # Cells round each layer's bytes up, so the best of a slightly smaller budget is always reached.
    smaller = budget * (1 - len(table) / 8_192) - 1e-6
    if smaller >= least:
        assert kl <= best(table, smaller) + 1e-9


@given(TABLES, st.floats(0, 1))
def test_greed_keeps_the_budget(table: dict[str, list[Choice]], share: float) -> None:
    least = sum(choices[0].size_bytes for choices in table.values())
    most = sum(choices[-1].size_bytes for choices in table.values())
    budget = max(least, share * most) + 1e-9
    _, size = totals(table, by_greed(table, budget))
    assert size <= budget + 1e-6


@pytest.mark.parametrize("choose", [by_dp, by_greed])
def test_plenty_of_bytes_leave_every_layer_wide(choose: object) -> None:
    table = make_table([[(1, 10), (0.5, 20), (0.0, 30)]] * 5)
    assert callable(choose)
    assert set(choose(table, 1000).values()) == {8}
    assert set(choose(table, 50).values()) == {2}


@pytest.mark.parametrize("choose", [by_dp, by_greed])
def test_the_layer_that_suffers_less_gets_fewer_bits(choose: object) -> None:
    table = {
        "sensitive": [Choice(2, 3.0, 10), Choice(8, 0.0, 40)],
        "robust": [Choice(2, 0.1, 10), Choice(8, 0.0, 40)],
    }
    assert callable(choose)
    assert choose(table, 55) == {"sensitive": 8, "robust": 2}


@pytest.mark.parametrize("method", ["dp", "greedy"])
def test_a_budget_below_the_narrowest_widths_is_infeasible(method: str) -> None:
    table = make_table([[(1, 1000), (0.5, 2000), (0.0, 3000)]])
    metrics = {"overhead_bytes": 500.0, **to_metrics(table)}
    config = AutoBits.model_validate({"budget_bytes": 1499, "method": method})
    with pytest.raises(InfeasiblePoint, match="need at least 1,000 bytes, but the budget leaves 999: raise budget_b"):
        allocate(config, QuantScheme(), metrics)
    scheme = allocate(config.model_copy(update={"budget_bytes": 1501}), QuantScheme(a_bits=4), metrics)
    assert scheme == QuantScheme(a_bits=4, w_bits_by_layer={"blocks.0.expand": 2})


@given(TABLES)
def test_a_table_survives_as_metrics(table: dict[str, list[Choice]]) -> None:
    assert read_table(to_metrics(table)) == table
