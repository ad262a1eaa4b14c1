"""Stored graphs: what is written comes back, and what is not a graph is refused in one line."""

import base64
import contextlib
import json
import random
import zlib

import pytest

from trainables.errors import ConfigError
from trainables.graph.graph import MAX_BYTES, Graph, Node, read_graph
from trainables.graph.operators import shapes

GRAPH = Graph(
    (3, 8, 8),
    (
        Node(
            "conv",
            "conv2d",
            ("image",),
            {
                "weight": (4, 3, 3, 3),
                "bias": True,
                "groups": 1,
                "stride": (1, 1),
                "dilation": (1, 1),
                "padding": (1, 1),
            },
        ),
        Node("relu", "relu", ("conv",)),
        Node("mean", "mean", ("relu",), {"dims": (2, 3), "keep": False}),
        Node("fc", "linear", ("mean",), {"weight": (10, 4), "bias": True}),
    ),
    "fc",
)


def stored(change: object) -> str:
    """The text of the graph after a change of its JSON."""
    body = json.loads(zlib.decompress(base64.b64decode(GRAPH.stored())))
    change(body)
    return base64.b64encode(zlib.compress(json.dumps(body).encode())).decode()


def test_a_stored_graph_comes_back() -> None:
    assert read_graph(GRAPH.stored()) == GRAPH
    assert shapes(GRAPH) == {
        "image": (1, 3, 8, 8),
        "conv": (1, 4, 8, 8),
        "relu": (1, 4, 8, 8),
        "mean": (1, 4),
        "fc": (1, 10),
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b.update(version=2), "it has version 2, not 1"),
        (lambda b: b.update(output=9), "9 is no place below 5"),
        (lambda b: b["nodes"][0].__setitem__(2, [3]), "3 is no place below 1"),
        (lambda b: b["nodes"][1].__setitem__(0, "conv"), "has a name twice"),
        (lambda b: b.update(nodes=20_001 * b["nodes"][:1]), "more than 20,000"),
        (lambda b: b.pop("image"), "'image'"),
    ],
)
def test_what_is_no_graph_is_refused(change: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_graph(stored(change))


def test_a_graph_that_unfolds_to_too_much_is_refused() -> None:
    with pytest.raises(ConfigError, match="cut off, or too large"):
        read_graph(base64.b64encode(zlib.compress(b" " * (MAX_BYTES + 1))).decode())


@pytest.mark.parametrize(
    ("place", "attributes", "says"),
    [
        (0, {"weight": (4, 2, 3, 3)}, "reads 2 channels, not 3"),
        (0, {"weight": (4, 3, 30, 30)}, "would have shape"),
        (0, {"stride": (0, 1)}, "conv2d conv"),
        (0, {"weight": (2**40, 3, 3, 3)}, "would have shape"),
        (0, {"weight": (2**21, 3, 3, 3)}, "would have shape"),
        (0, {"weight": ("4", 3, 3, 3)}, "conv2d conv"),
        (0, {"unknown": 1}, "does not fit its inputs"),
        (2, {"dims": (2, 9)}, "mean mean|linear fc"),
        (3, {"weight": (10, 5)}, "reads 5 values, not 4"),
    ],
)
def test_a_graph_whose_shapes_do_not_fit_is_refused(place: int, attributes: dict[str, object], says: str) -> None:
    nodes = list(GRAPH.nodes)
    nodes[place] = nodes[place].with_attributes(**attributes)
    with pytest.raises(ConfigError, match=says):
        shapes(Graph(GRAPH.image, tuple(nodes), GRAPH.output))


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ConfigError, match="the unknown operator 'sort'"):
        shapes(Graph((3, 8, 8), (Node("s", "sort", ("image",)),), "s"))


def test_altered_graphs_are_read_or_refused() -> None:
    """Whatever is changed in the JSON, there is a graph with shapes, or one clear error."""
    draw = random.Random(1)
    plain = zlib.decompress(base64.b64decode(GRAPH.stored()))
    for _ in range(300):
        content = bytearray(plain)
        for _ in range(draw.randint(1, 3)):
            content[draw.randrange(len(content))] = draw.choice(b'0123456789-.,:[]{}"ex')
        with contextlib.suppress(ConfigError):
            shapes(read_graph(base64.b64encode(zlib.compress(bytes(content))).decode()))
