"""An ONNX graph under construction: its nodes and constants, and the file of it."""

from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 21, 10
"""The oldest versions with 4-bit integers."""
INT2_OPSET, INT2_IR_VERSION = 25, 13
"""The oldest versions with 2-bit integers, used by files that hold some."""
FLOAT, INT8, INT32 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT32


class Nodes:
    """A graph's nodes and constants in the order of their addition; a node is known by the name of its one output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._known: set[str] = set()

    def add(self, op: str, *inputs: str, name: str, **attributes: object) -> str:
        """Adds a node, unless one of this name is there; returns the name."""
        if name not in self._known:
            self._known.add(name)
            self._nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def constant(self, name: str, array: np.ndarray | np.generic) -> str:
        """Adds a constant, unless one of this name is there; returns the name. Sub-byte types are stored packed."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def codes(self, name: str, codes: np.ndarray, bits: int) -> str:
        """Adds a constant of symmetric integers in the narrowest type that holds `bits` of them."""
        return self.constant(name, codes.astype(_code_type(bits)))

    def file(self, *, image: tuple[int, int, int], classes: int, output: str, metadata: dict[str, str]) -> bytes:
        """Returns a file from (N, C, H, W) uint8 `pixels` to (N, classes) float32 `logits`; it has one form."""
        self.add("Identity", output, name="logits")
        narrow = any(tensor.data_type == TensorProto.INT2 for tensor in self._constants.values())
        opset, ir_version = (INT2_OPSET, INT2_IR_VERSION) if narrow else (OPSET, IR_VERSION)
        pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", *image])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])
        graph = helper.make_graph(self._nodes, "network", [pixels], [logits], list(self._constants.values()))
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="tune-app")
        helper.set_model_props(model, metadata)
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def _code_type(bits: int) -> np.dtype[Any]:
    """Returns the narrowest type of symmetric integers of so many bits."""
    for width, dtype in ((2, ml_dtypes.int2), (4, ml_dtypes.int4), (8, np.int8), (16, np.int16)):
        if bits <= width:
            return np.dtype(dtype)
    raise ValueError(f"codes have at most 16 bits, but got {bits}")
