"""A network as an ONNX graph, from the operations that one run of it makes.

torch's exporter takes ten seconds, too long to be a part of loading. A run is recorded in some ten milliseconds, and an
encoder consists of few kinds of operations. Whatever does not depend on the input, such as folding the batch statistics
into the convolutions, is computed once and becomes a constant.
"""

from collections.abc import Callable, Iterable
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

OPSET, IR_VERSION = 18, 10
INPUT, OUTPUT = "input", "output"


class UnknownOperation(ValueError):
    """A network does what this writer has no words for."""


def onnx_graph(network: Callable[[Tensor], Tensor], example: Tensor) -> onnx.ModelProto:
    """The graph of a network with one input and one output, for batches of any size.

    `example` is a batch of two or more. Raises UnknownOperation.
    """
    with torch.no_grad(), _Recorder(example) as recorder:
        output = network(example)
    recorder.node("Identity", [output], [OUTPUT])
    places = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *tensor.shape[1:]])
        for name, tensor in ((INPUT, example), (OUTPUT, output))
    ]
    graph = helper.make_graph(recorder.nodes, "network", places[:1], places[1:], recorder.constants)
    imports = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)


class _Recorder(TorchDispatchMode):
    """Lets torch compute, and writes down what depends on the input."""

    def __init__(self, example: Tensor):
        super().__init__()
        self.batch = len(example)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        # Tensors are known by their address as objects, so none may be let go.
        self._names = {id(example): INPUT}
        self._kept: list[Any] = [example]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """A hook of torch's: True, its default, would import the whole compiler, in a second, only to switch it off."""
        return False

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = operation(*args, **(kwargs or {}))
        if any(id(part) in self._names for part in _tensors(args)):
            self._kept.append((args, result))
            write = _WRITERS.get(str(operation))
            if write is None or kwargs and kwargs.keys() != {"memory_format"}:
                raise UnknownOperation(f"{operation} has no counterpart in the ONNX graph of a network")
            write(self, args, result)
        return result

    def node(self, kind: str, inputs: Iterable[Tensor], outputs: list[str], **attributes: Any) -> None:
        """Add a node with named outputs."""
        names = [self._name(part) for part in inputs]
        self.nodes.append(helper.make_node(kind, names, outputs, **attributes))

    def add(
        self, kind: str, inputs: Iterable[Tensor], results: Tensor | Iterable[Tensor], **attributes: Any
    ) -> None:
        """Add a node that makes these tensors."""
        several = [results] if isinstance(results, Tensor) else list(results)
        outputs = [f"x{len(self.nodes)}_{k}" for k in range(len(several))]
        self.node(kind, inputs, outputs, **attributes)
        # After the node: an operation in place gives its input a new name.
        self._names.update(zip(map(id, several), outputs, strict=True))

    def _name(self, tensor: Tensor) -> str:
        if id(tensor) not in self._names:
            name = f"constant{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(tensor.detach().cpu().contiguous().numpy(), name))
            self._names[id(tensor)] = name
            self._kept.append(tensor)
        return self._names[id(tensor)]


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _integers(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _convolution(r: _Recorder, args: tuple, result: Tensor) -> None:
    x, weight, bias, strides, padding, dilations, transposed, _, group = args
    if transposed:
        raise UnknownOperation("a transposed convolution has no counterpart in the ONNX graph of a network")
    inputs = [x, weight] if bias is None else [x, weight, bias]
    pads = [*padding, *padding]
    r.add("Conv", inputs, result, strides=strides, pads=pads, dilations=dilations, group=group)


def _max_pool(r: _Recorder, args: tuple, result: tuple[Tensor, Tensor]) -> None:
    x, kernel, strides, padding, dilations, ceil = (*args, [0, 0], [1, 1], False)[:6]
    sizes = {"kernel_shape": kernel, "strides": strides, "pads": [*padding, *padding], "dilations": dilations}
    r.add("MaxPool", [x], result[0], ceil_mode=int(ceil), **sizes)


def _mean(r: _Recorder, args: tuple, result: Tensor) -> None:
    x, axes, keep = (*args, False)[:3]
    r.add("ReduceMean", [x, _integers(*axes)], result, keepdims=int(keep))


def _view(r: _Recorder, args: tuple, result: Tensor) -> None:
    if result.shape[:1] != (r.batch,):
        raise UnknownOperation("the pictures of a batch may not be mixed in the ONNX graph of a network")
    r.add("Reshape", [args[0], _integers(0, *result.shape[1:])], result)  # 0 keeps the batch's size


def _slice(r: _Recorder, args: tuple, result: Tensor) -> None:
    x, axis, start, end = args
    r.add("Slice", [x, *(_integers(value) for value in (start, end, axis))], result)


def _arithmetic(kind: str) -> Callable[[_Recorder, tuple, Tensor], None]:
    def write(r: _Recorder, args: tuple, result: Tensor) -> None:
        inputs = [part if isinstance(part, Tensor) else torch.tensor(float(part)) for part in args]
        r.add(kind, inputs, result)

    return write


_WRITERS: dict[str, Callable[[_Recorder, tuple, Any], None]] = {
    "aten.convolution.default": _convolution,
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.mean.dim": _mean,
    "aten.view.default": _view,
    "aten._unsafe_view.default": _view,
    "aten.slice.Tensor": _slice,
    "aten.hardtanh_.default": _arithmetic("Clip"),
    "aten.relu.default": _arithmetic("Relu"),
    "aten.add.Tensor": _arithmetic("Add"),
    "aten.sub.Tensor": _arithmetic("Sub"),
    "aten.mul.Tensor": _arithmetic("Mul"),
    "aten.div.Tensor": _arithmetic("Div"),
    "aten.cat.default": lambda r, a, y: r.add("Concat", a[0], y, axis=(*a, 0)[1]),
    "aten.addmm.default": lambda r, a, y: r.add("Gemm", [a[1], a[2], a[0]], y),
    "aten.split_with_sizes.default": lambda r, a, y: r.add("Split", [a[0], _integers(*a[1])], y, axis=a[2]),
    "aten.clone.default": lambda r, a, y: r.add("Identity", [a[0]], y),
}
