"""YuNet (Wu, Peng and Yu 2023) by ONNX Runtime: the boxes of OpenCV's FaceDetectorYN in less than half its time.

The file holds weights of 8 bits with a scale for each channel; the graph is rewritten with the float32 weights that OpenCV
computes with too, for pictures of any size. What follows the network is what OpenCV does.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnx
from jaxtyping import Float, Float32, UInt8
from onnx import numpy_helper

from mofaface.engines import Session

STRIDES = (8, 16, 32)
OVERLAP = 0.3
MOST_FACES = 500


@cache
def yunet(path: Path) -> "YuNet":
    """The detector of a file, made once."""
    return YuNet(path)


class YuNet:
    """Pictures → faces."""

    def __init__(self, path: Path):
        # On one thread: a second one gains nothing on layers this thin, and batches have a use for it.
        self._session = Session(float_graph(onnx.load(path)), threads=1)

    def __call__(
        self, pixels: UInt8[np.ndarray, "height width 3"], score: float
    ) -> Float[np.ndarray, "faces 15"]:
        """Faces of at least this score, best first: x, y, width, height, five points, score, as OpenCV's rows."""
        height, width = (-(-side // STRIDES[-1]) * STRIDES[-1] for side in pixels.shape[:2])
        image = np.zeros((1, 3, height, width), np.float32)
        image[0, :, : pixels.shape[0], : pixels.shape[1]] = pixels[..., ::-1].transpose(2, 0, 1)
        outputs = self._session(image)
        cls, obj, box, points = (outputs[k : k + 3] for k in (0, 3, 6, 9))
        parts = [
            decoded(cls[k][0], obj[k][0], box[k][0], points[k][0], stride, width // stride, score)
            for k, stride in enumerate(STRIDES)
        ]
        rows = np.concatenate(parts)
        whole = rows[:, :4].astype(np.int64).tolist()  # OpenCV compares boxes of whole pixels
        kept = cv2.dnn.NMSBoxes(whole, rows[:, 14].tolist(), score, OVERLAP, top_k=MOST_FACES)
        return rows[np.asarray(kept, np.int64).reshape(-1)].astype(np.float64)


def decoded(
    cls: Float32[np.ndarray, "cells 1"],
    obj: Float32[np.ndarray, "cells 1"],
    box: Float32[np.ndarray, "cells 4"],
    points: Float32[np.ndarray, "cells 10"],
    stride: int,
    columns: int,
    least: float,
) -> Float32[np.ndarray, "faces 15"]:
    """The cells of one grid whose score reaches `least`, as rows in pixels; cells go through the picture row by row."""
    score = np.sqrt(cls.clip(0, 1) * obj.clip(0, 1))[:, 0]
    chosen = np.flatnonzero(score >= least)
    cell = np.stack((chosen % columns, chosen // columns), 1).astype(np.float32)
    centre = (cell + box[chosen, :2]) * stride
    size = np.exp(box[chosen, 2:]) * stride
    places = (points[chosen].reshape(-1, 5, 2) + cell[:, None]) * stride
    return np.concatenate(
        (centre - size / 2, size, places.reshape(-1, 10), score[chosen, None]), 1, dtype=np.float32
    )


def float_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with its weights as plain constants, open in the picture's size."""
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    nodes = list(_without_constant_nodes(model.graph.node, constants))
    used = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        model.graph.name,
        list(model.graph.input),
        list(model.graph.output),
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items() if k in used],
    )
    for side, name in ((2, "height"), (3, "width")):
        graph.input[0].type.tensor_type.shape.dim[side].dim_param = name
    for output in graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"cells_{output.name[-2:]}"
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _without_constant_nodes(
    nodes: Iterable[onnx.NodeProto], constants: dict[str, np.ndarray]
) -> Iterator[onnx.NodeProto]:
    """The nodes that depend on the picture; the results of the others are added to the constants."""
    for node in nodes:
        inputs = [constants[name] for name in node.input if name in constants]
        if len(inputs) < len(node.input):
            yield node
        elif node.op_type == "DequantizeLinear":
            number, scale, zero = inputs
            constants[node.output[0]] = (number.astype(np.float32) - zero.astype(np.float32)) * scale
        else:
            assert node.op_type == "Reshape", node.op_type
            constants[node.output[0]] = inputs[0].reshape(inputs[1])
