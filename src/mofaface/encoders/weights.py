"""Reads the public weight files of the backbones, whatever tool wrote them, without running code from a file.

| file | read with | channels of the first layer |
|---|---|---|
| `bvlc_reference_caffenet.caffemodel`, `VGG_FACE.caffemodel` | `caffe_format` | blue first |
| `vgg_face.mat` (MatConvNet) | SciPy | red first |
| `.pth` of VGG-Face, torchvision, EfficientNet-Lite, any state dict | PyTorch, weights only | as the backbone's own |
| `.safetensors` with the backbone's names | safetensors | as the backbone's own |
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mofaface.encoders.backbone import Backbone
from mofaface.encoders.caffe_format import read_caffemodel

Channels = Literal["rgb", "bgr"]
Tensors = dict[str, Tensor]


class WeightsError(ValueError):
    """A weights file that cannot be used, and why."""


def _read_caffe(path: Path) -> Tensors:
    """Blobs as `<layer>.weight` and `.bias`; the ones that old files put before the shape are dropped."""
    tensors = {}
    for layer, blobs in read_caffemodel(path).items():
        for part, blob in zip(("weight", "bias"), blobs, strict=False):
            padded = blob.ndim == 4 and blob.shape[:2] == (1, 1)
            shape = (-1,) if part == "bias" else blob.shape[2:] if padded else blob.shape
            tensors[f"{layer}.{part}"] = torch.tensor(blob.reshape(shape))
    return tensors


def _read_matconvnet(path: Path) -> Tensors:
    """Filters are stored as height, width, in, out; fully connected layers are convolutions there."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise WeightsError(f"reading {path.name} needs SciPy: pip install scipy") from None
    contents = loadmat(path, struct_as_record=False, squeeze_me=True)
    net = contents.get("net", None)
    layers = contents["layers"] if net is None and "layers" in contents else getattr(net, "layers", [])
    tensors = {}
    for layer in np.atleast_1d(layers):
        weights = getattr(layer, "weights", None)
        if weights is None and hasattr(layer, "filters"):
            weights = [layer.filters, layer.biases]
        if weights is None or len(weights) != 2:
            continue
        # squeeze_me drops sizes of one, which only a 1×1 convolution has.
        filters = weights[0] if weights[0].ndim == 4 else weights[0].reshape(1, 1, *weights[0].shape)
        tensors[f"{layer.name}.weight"] = torch.tensor(filters.transpose(3, 2, 0, 1).astype(np.float32))
        tensors[f"{layer.name}.bias"] = torch.tensor(np.ravel(weights[1]).astype(np.float32))
    return tensors


def _read_torch(path: Path) -> Tensors:
    """A state dict, also inside {"state_dict": …} and with the prefix of DataParallel."""
    contents = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(contents, Mapping) and isinstance(contents.get(key), Mapping):
            contents = contents[key]
    if not isinstance(contents, Mapping):
        raise WeightsError(f"{path} must hold a state dict, but holds a {type(contents).__name__}")
    return {str(k).removeprefix("module."): v for k, v in contents.items() if isinstance(v, Tensor)}


READERS: dict[str, tuple[Callable[[Path], Tensors], Channels | None]] = {
    ".caffemodel": (_read_caffe, "bgr"),
    ".mat": (_read_matconvnet, "rgb"),
    ".pth": (_read_torch, None),
    ".pt": (_read_torch, None),
    ".safetensors": (load_file, None),
}


def _read(path: Path) -> tuple[Tensors, Channels | None]:
    """The tensors of any supported file, and the channel order its format fixes, if it does."""
    if path.suffix not in READERS:
        endings = ", ".join(READERS)
        raise WeightsError(f"a weights file ends in {endings}, but {path.name} does not; convert it first")
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    reader, channels = READERS[path.suffix]
    try:
        return reader(path), channels
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    # For bytes they cannot understand, the libraries raise nearly everything, from IndexError to their own.
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        rule = f"{path} is damaged or not a {path.suffix} file"
        raise WeightsError(f"{rule}: {reason}; download it again") from error


# EfficientNet's names for the parts of a block, first without the layer that expands, then with it.
_BLOCK_PARTS = (
    {"_depthwise_conv": "0.0", "_bn1": "0.1", "_project_conv": "1", "_bn2": "2"},
    {
        "_expand_conv": "0.0",
        "_bn0": "0.1",
        "_depthwise_conv": "1.0",
        "_bn1": "1.1",
        "_project_conv": "2",
        "_bn2": "3",
    },
)


def _name_as_ours(name: str) -> str:
    """VGG-Face is also around with names like `conv_1_1`, as its Lua edition had them; EfficientNet has its own."""
    if block := re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", name):
        number, part, tensor = int(block[1]), block[2], block[3]
        parts = _BLOCK_PARTS[min(number, 1)]
        return f"features.{number + 1}.conv.{parts[part]}.{tensor}" if part in parts else name
    for part, ours in {"_conv_stem": "0.0", "_bn0": "0.1", "_conv_head": "22.0", "_bn1": "22.1"}.items():
        if name.startswith(f"{part}."):
            return f"features.{ours}.{name.partition('.')[2]}"
    return re.sub(r"^conv_(\d_\d)\.", r"conv\1.", name)


def _describe(tensors: Mapping[str, Tensor], limit: int = 6) -> str:
    shown = [f"{name} {tuple(value.shape)}" for name, value in list(tensors.items())[:limit]]
    more = len(tensors) - len(shown)
    return (", ".join(shown) or "no tensor at all") + (f" and {more} more" if more else "")


def _matched(backbone: Backbone, found: Tensors, path: Path) -> Tensors:
    """Every tensor the backbone needs, in its shape."""
    matched, problems = {}, []
    for name, shape in backbone.pretrained_shapes().items():
        value = found.get(name)
        if value is None and name.endswith("num_batches_tracked"):
            continue
        if value is not None and len(shape) == 2 and value.ndim == 4:
            value = value.flatten(1)
        if value is None or tuple(value.shape) != shape:
            came = "is missing" if value is None else f"has shape {tuple(value.shape)}"
            problems.append(f"{name} {came}, expected {shape}")
        else:
            matched[name] = value
    if problems:
        more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise WeightsError(
            f"{path} does not fit the encoder '{backbone.name}': {'; '.join(problems[:4])}{more}. "
            f"The file holds {_describe(found)}. "
            f"Give a weights file of this network, or choose the encoder that the file belongs to."
        )
    return matched


def load_pretrained(backbone: Backbone, path: str | Path, channels: Channels | None = None) -> None:
    """Fills the backbone with the file's weights; its classifier is ignored.

    `channels` is the order in which the file's first layer takes colours, where its format leaves that open.
    """
    path = Path(path)
    read, fixed = _read(path)
    found = {_name_as_ours(name): value for name, value in read.items()}
    if channels is None:
        # The Lua edition of VGG-Face takes blue first, as the Caffe one from which it was made.
        channels = fixed or ("bgr" if any(name.startswith("conv_1_1") for name in read) else None)
    matched = _matched(backbone, found, path)
    own: Channels = "bgr" if backbone.preprocess.format.bgr else "rgb"
    if channels is not None and channels != own:
        first = next(iter(matched))
        matched[first] = matched[first].flip(1)
    backbone.load_state_dict(matched, strict=False)
