"""Bits per layer under a byte budget, from what each choice costs in accuracy and in bytes (torch-free)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.config import AutoBits, QuantScheme
from trainables.errors import InfeasiblePoint

CELLS = 8_192
"""Cells of the budget in the table of `by_dp`; bytes are rounded up to cells, so that the sum stays below the budget.
More: time and memory in proportion; fewer: budget lost to rounding, up to a cell (0.01 % of it) for each layer."""


@dataclass(frozen=True)
class Choice:
    """One width of one layer: how far the network's output moves (`kl`, nats), and the bytes of the codes."""

    bits: int
    kl: float
    size_bytes: float


Table = Mapping[str, Sequence[Choice]]
"""The choices of every layer, from narrow to wide, by the name of its unit."""


def allocate(
    config: AutoBits, scheme: QuantScheme, metrics: Mapping[str, float], *, excess_bytes: int = 0
) -> QuantScheme:
    """Returns the scheme with the bits of every layer set, from the metrics of the sensitivity stage.

    The budget is smaller by `excess_bytes`, what a file made under the whole of it had too many, but no smaller than
    what the narrowest widths take.

    Raises:
        InfeasiblePoint: even the narrowest widths pass the budget.
    """
    table, budget = read_table(metrics), config.budget_bytes - metrics["overhead_bytes"]
    _check(table, budget)
    budget = max(budget - excess_bytes, _least(table))
    choose = by_dp if config.method == "dp" else by_greed
    return scheme.model_copy(update={"w_bits_by_layer": choose(table, budget)})


def to_metrics(table: Table) -> dict[str, float]:
    """Returns a table as flat numbers, as a stage keeps them; `read_table` inverts it."""
    rows = [(name, choice) for name, choices in table.items() for choice in choices]
    kl = {f"kl/{name}/{choice.bits}": choice.kl for name, choice in rows}
    return kl | {f"bytes/{name}/{choice.bits}": choice.size_bytes for name, choice in rows}


def read_table(metrics: Mapping[str, float]) -> dict[str, list[Choice]]:
    """Reads the choices of every layer from the metrics of a stage."""
    table: dict[str, list[Choice]] = {}
    for key, kl in metrics.items():
        kind, _, place = key.partition("/")
        if kind == "kl":
            name, _, bits = place.rpartition("/")
            table.setdefault(name, []).append(Choice(int(bits), kl, metrics[f"bytes/{place}"]))
    return {name: sorted(choices, key=lambda c: c.bits) for name, choices in table.items()}


def by_greed(table: Table, budget_bytes: float) -> dict[str, int]:
    """Narrows layers where a saved byte costs least KL, from the widest on, until the budget holds; then widens.

    Raises:
        InfeasiblePoint: even the narrowest widths pass the budget.
    """
    _check(table, budget_bytes)
    chosen = {name: choices[-1] for name, choices in table.items()}
    while sum(choice.size_bytes for choice in chosen.values()) > budget_bytes:
        steps = [
            ((choice.kl - now.kl) / (now.size_bytes - choice.size_bytes), name, choice)
            for name, now in chosen.items()
            for choice in table[name]
            if choice.size_bytes < now.size_bytes
        ]
        _, name, choice = min(steps, key=lambda step: (step[0], step[1], -step[2].bits))
        chosen[name] = choice
    _widen_(chosen, table, budget_bytes)
    return {name: choice.bits for name, choice in chosen.items()}


def _widen_(chosen: dict[str, Choice], table: Table, budget_bytes: float) -> None:
    """Gives the bytes that the last narrowing left over to where they help most."""

    def steps() -> list[tuple[float, str, Choice]]:
        left = budget_bytes - sum(choice.size_bytes for choice in chosen.values())
        return [
            (now.kl - choice.kl, name, choice)
            for name, now in chosen.items()
            for choice in table[name]
            if choice.kl < now.kl and 0 <= choice.size_bytes - now.size_bytes <= left
        ]

    while found := steps():
        _, name, choice = max(found, key=lambda step: (step[0], step[1]))
        chosen[name] = choice


def by_dp(table: Table, budget_bytes: float) -> dict[str, int]:
    """Finds the least sum of KL within the budget: a multiple-choice knapsack, solved over cells of the budget.

    Raises:
        InfeasiblePoint: even the narrowest widths pass the budget.
    """
    _check(table, budget_bytes)
    cell = max(budget_bytes, 1.0) / CELLS
    best = np.zeros(CELLS + 1)
    picks: list[np.ndarray] = []
    for choices in table.values():
        totals = np.full((len(choices), CELLS + 1), np.inf)
        for row, choice in enumerate(choices):
            need = int(np.ceil(choice.size_bytes / cell))
            if need <= CELLS:
                totals[row, need:] = best[: CELLS + 1 - need] + choice.kl
        picks.append(totals.argmin(axis=0))
        best = totals.min(axis=0)
    if not np.isfinite(best[-1]):
        return by_greed(table, budget_bytes)  # fits, but not after rounding up: the narrowest nearly everywhere
    chosen, left = {}, CELLS
    for name, pick in zip(reversed(list(table)), reversed(picks), strict=True):
        choice = table[name][pick[left]]
        chosen[name] = choice.bits
        left -= int(np.ceil(choice.size_bytes / cell))
    return dict(reversed(chosen.items()))


def _least(table: Table) -> float:
    """Returns the bytes of the narrowest widths."""
    return sum(min(choice.size_bytes for choice in choices) for choices in table.values())


def _check(table: Table, budget_bytes: float) -> None:
    least = _least(table)
    if least > budget_bytes:
        raise InfeasiblePoint(
            f"the weights need at least {least:,.0f} bytes, but the budget leaves {max(budget_bytes, 0):,.0f}: "
            "raise budget_bytes, or prune more."
        )
