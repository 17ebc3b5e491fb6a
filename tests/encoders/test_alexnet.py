from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from mofaface.encoders.alexnet import AlexNet, _normalise

from .caffe_writer import layers_of, prototxt, write_caffemodel

DEPLOY = [
    *("conv1", "pool3", "lrn", "conv2", "pool3", "lrn"),
    *("conv3", "conv4", "conv5", "pool3", "fc6", "fc7"),
]


def lrn_plain(x: np.ndarray) -> np.ndarray:
    """Caffe's local response normalisation, channel by channel."""
    result = np.empty_like(x)
    for channel in range(x.shape[1]):
        window = x[:, max(channel - 2, 0) : channel + 3]
        result[:, channel] = x[:, channel] / (1 + 1e-4 / 5 * (window**2).sum(axis=1)) ** 0.75
    return result


def widen(backbone: torch.nn.Module) -> None:
    """Random weights that keep activations large, so that differences would show."""
    for parameter in backbone.parameters():
        scale = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
        torch.nn.init.normal_(parameter, std=scale)


def opencv_features(
    folder: Path, backbone: torch.nn.Module, order: list[str], prepared: Tensor
) -> np.ndarray:
    """The chain's output, computed by OpenCV from files in Caffe's format."""
    write_caffemodel(folder / "net.caffemodel", layers_of(backbone), legacy=True)
    (folder / "net.prototxt").write_text(prototxt(backbone, prepared.shape[-1], order))
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    net.setInput(prepared.numpy())
    return net.forward()


def test_normalisation_equals_its_plain_twin():
    x = torch.randn(2, 7, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 100
    np.testing.assert_allclose(_normalise(x), lrn_plain(x.numpy()), rtol=1e-12)


def test_features_equal_opencv_running_the_deploy_file_of_caffenet(tmp_path: Path):
    torch.manual_seed(0)
    backbone = AlexNet(shrink=8).eval()
    widen(backbone)
    images = torch.rand(1, 3, 240, 240)
    with torch.inference_mode():
        features = backbone(images).numpy()
        prepared = backbone.preprocess(images).contiguous()
    theirs = opencv_features(tmp_path, backbone, DEPLOY, prepared)
    assert features.max() > 1
    np.testing.assert_allclose(features, theirs, rtol=1e-3, atol=1e-3 * features.max())


def test_the_full_network_has_the_parameters_of_caffenet():
    """60,965,224 with the classifier fc8 (4096 → 1000), as Caffe counts bvlc_reference_caffenet."""
    with torch.device("meta"):
        backbone = AlexNet()
    assert sum(parameter.numel() for parameter in backbone.parameters()) + 4097 * 1000 == 60_965_224
