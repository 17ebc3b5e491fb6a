"""Writes the protocol buffers and prototxts of Caffe, so that the tests have files as Caffe leaves them."""

from pathlib import Path

import numpy as np
from torch import Tensor, nn

CONVOLUTION, INNER_PRODUCT = 4, 14  # V1LayerParameter.LayerType


def varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def blob(values: np.ndarray, legacy: bool) -> bytes:
    data = text(5, values.astype("<f4").tobytes())
    if not legacy:
        return text(7, text(1, b"".join(varint(size) for size in values.shape))) + data
    shape = (1,) * (4 - values.ndim) + values.shape
    return b"".join(number(field, size) for field, size in enumerate(shape, start=1)) + data


def layer(name: str, blobs: list[np.ndarray], legacy: bool) -> bytes:
    """The 2014 layout (fields of V1LayerParameter) or the current one (LayerParameter)."""
    kind = CONVOLUTION if blobs[0].ndim == 4 else INNER_PRODUCT
    if legacy:
        head = text(2, b"in") + text(3, b"out") + text(4, name.encode()) + number(5, kind)
        return text(2, head + b"".join(text(6, blob(values, True)) for values in blobs))
    head = text(1, name.encode()) + text(2, b"Convolution" if kind == CONVOLUTION else b"InnerProduct")
    return text(100, head + b"".join(text(7, blob(values, False)) for values in blobs))


def write_caffemodel(path: Path, layers: dict[str, list[np.ndarray]], legacy: bool) -> None:
    """A network of the layers' (weight, bias), with a layer that learned nothing in between."""
    nothing = (
        text(2, text(4, b"relu") + number(5, 18))
        if legacy
        else text(100, text(1, b"relu") + text(2, b"ReLU"))
    )
    body = b"".join(layer(name, blobs, legacy) + nothing for name, blobs in layers.items())
    path.write_bytes(text(1, b"a network") + body)


def layers_of(backbone: nn.Module) -> dict[str, list[np.ndarray]]:
    """Name → (weight, bias) of every convolution and fully connected layer."""
    kinds = (nn.Conv2d, nn.Linear)
    found = {name: module for name, module in backbone.named_modules() if isinstance(module, kinds)}
    return {name: [array(module.weight), array(module.bias)] for name, module in found.items()}


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def _layer_text(name: str, kind: str, bottom: str, parameters: str = "", in_place: bool = False) -> str:
    top = bottom if in_place else name
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {parameters} }}\n'


def _convolution(name: str, bottom: str, module: nn.Conv2d) -> str:
    numbers = (
        f"num_output: {module.out_channels} kernel_size: {module.kernel_size[0]} stride: {module.stride[0]}"
    )
    more = f"pad: {module.padding[0]} group: {module.groups}"
    learned = _layer_text(name, "Convolution", bottom, f"convolution_param {{ {numbers} {more} }}")
    return learned + _layer_text(f"{name}_relu", "ReLU", name, in_place=True)


def _fully_connected(name: str, bottom: str, module: nn.Linear) -> str:
    learned = _layer_text(
        name, "InnerProduct", bottom, f"inner_product_param {{ num_output: {module.out_features} }}"
    )
    return learned + _layer_text(f"{name}_relu", "ReLU", name, in_place=True)


def _pool(name: str, bottom: str, kernel: int) -> str:
    return _layer_text(
        name, "Pooling", bottom, f"pooling_param {{ pool: MAX kernel_size: {kernel} stride: 2 }}"
    )


def _lrn(name: str, bottom: str) -> str:
    return _layer_text(name, "LRN", bottom, "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")


def prototxt(backbone: nn.Module, size: int, order: list[str]) -> str:
    """The deploy file of a chain: learned layers by name, "pool<kernel>" and "lrn" in between."""
    lines, bottom = [f'input: "data" input_dim: 1 input_dim: 3 input_dim: {size} input_dim: {size}\n'], "data"
    for index, item in enumerate(order):
        name = f"{item}_{index}"
        if item.startswith("pool"):
            lines.append(_pool(name, bottom, int(item[4:])))
        elif item == "lrn":
            lines.append(_lrn(name, bottom))
        else:
            name, module = item, backbone.get_submodule(item)
            write = _convolution if isinstance(module, nn.Conv2d) else _fully_connected
            lines.append(write(name, bottom, module))
        bottom = name
    return "".join(lines)
