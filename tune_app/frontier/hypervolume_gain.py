"""The gain of a hypervolume by one more point (NumPy only). Costs: lower is better."""

import bisect

import numpy as np

from tune_app.frontier.pareto import non_dominated


class FreeSpace:
    """What a front does not dominate up to a reference point, cut into b boxes that do not overlap.

    A point takes from each box the part that it dominates, which is a box again. So its gain is a sum of products of
    one side for each objective, and so is an expected gain where the objectives are independent.
    """

    def __init__(self, lower: np.ndarray, upper: np.ndarray) -> None:
        """Takes (b, k) corners of the boxes; minus infinity where a box has no end."""
        found = [np.unique(np.r_[low, high], return_inverse=True) for low, high in zip(lower.T, upper.T, strict=True)]
        self._edges = [edges for edges, _ in found]
        self._ends = [places.reshape(2, -1) for _, places in found]

    def reach(self, objective: int, costs: np.ndarray) -> np.ndarray:
        """Returns (..., e) how far points with these (...) costs lie below each edge of an objective.

        The mean over draws of a cost may stand for it: an expected gain is made of such means.
        """
        found: np.ndarray = np.maximum(self._edges[objective] - costs[..., None], 0.0)
        return found

    def sides(self, objective: int, reach: np.ndarray) -> np.ndarray:
        """Returns (..., b) lengths along one objective of what points with this (..., e) reach take from each box."""
        low, high = self._ends[objective]
        sides: np.ndarray = reach[..., high] - reach[..., low]
        return sides

    def gains(self, costs: np.ndarray) -> np.ndarray:
        """Returns (...,) what each point, (..., k), alone would add to the hypervolume, in the units' product."""
        sides = [self.sides(j, self.reach(j, costs[..., j])) for j in range(costs.shape[-1])]
        gains: np.ndarray = np.prod(sides, axis=0).sum(axis=-1)
        return gains


def free_space(front: np.ndarray, reference: np.ndarray) -> FreeSpace:
    """Cuts what a front, (m, k) in any order, leaves free up to a reference point, (k,), into about 3 m boxes.

    The front may have any rows; those outside the reference count nothing. A sweep along the third objective keeps the
    strips between the points that it has met in the plane of the other two, and closes those that the next one cuts.

    Raises:
        ValueError: more than three objectives.
    """
    k = len(reference)
    if k > 3:
        raise ValueError(f"free space is computed for at most 3 objectives, but got {k}")
    inside = front[(front < reference).all(axis=1)].reshape(-1, k)
    inside = inside[non_dominated(inside)]
    # Objectives that are missing up to three cost 0 for all rows, in a space from 0 to 1.
    rows = np.c_[inside, np.zeros((len(inside), 3 - k))]
    _, low_y, low_z = np.r_[np.full(k, -np.inf), np.zeros(3 - k)].tolist()
    end_x, end_y, end_z = np.r_[reference, np.ones(3 - k)].tolist()
    begins, ceilings, opened = [-np.inf], [end_y], [low_z]  # strips side by side: begin in x, end in y, begin in z
    boxes: list[tuple[tuple[float, ...], tuple[float, ...]]] = []

    def close(first: int, last: int, z: float) -> None:
        for i in range(first, last):
            end = begins[i + 1] if i + 1 < len(begins) else end_x
            if begins[i] < end and low_y < ceilings[i] and opened[i] < z:
                boxes.append(((begins[i], low_y, opened[i]), (end, ceilings[i], z)))

    for x, y, z in sorted(rows.tolist(), key=lambda row: row[2]):
        first = bisect.bisect_right(begins, x) - 1
        last = next((i for i in range(first, len(begins)) if ceilings[i] <= y), len(begins))
        if first < last:  # otherwise a row with the same first two costs has been met
            close(first, last, z)
            begins[first:last] = [begins[first], x]
            ceilings[first:last] = [ceilings[first], y]
            opened[first:last] = [z, z]
    close(0, len(begins), end_z)
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 2, 3)[..., :k]
    return FreeSpace(corners[:, 0], corners[:, 1])
