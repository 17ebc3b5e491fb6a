from pathlib import Path

import numpy as np
import torch

from mofaface.encoders.vgg import VGG16

from .test_alexnet import opencv_features, widen

DEPLOY = [
    *("conv1_1", "conv1_2", "pool2", "conv2_1", "conv2_2", "pool2", "conv3_1", "conv3_2", "conv3_3", "pool2"),
    *("conv4_1", "conv4_2", "conv4_3", "pool2", "conv5_1", "conv5_2", "conv5_3", "pool2", "fc6", "fc7"),
]


def test_features_equal_opencv_running_the_deploy_file_of_vgg_face(tmp_path: Path):
    torch.manual_seed(0)
    backbone = VGG16(shrink=16).eval()
    widen(backbone)
    images = torch.rand(1, 3, 240, 240)
    with torch.inference_mode():
        features = backbone(images).numpy()
        prepared = backbone.preprocess(images).contiguous()
    theirs = opencv_features(tmp_path, backbone, DEPLOY, prepared)
    assert features.max() > 1
    np.testing.assert_allclose(features, theirs, rtol=1e-3, atol=1e-3 * features.max())


def test_the_full_network_has_the_parameters_of_vgg_16():
    """138,357,544 with ImageNet's classifier (4096 → 1000): model D of Simonyan and Zisserman."""
    with torch.device("meta"):
        backbone = VGG16()
    assert sum(parameter.numel() for parameter in backbone.parameters()) + 4097 * 1000 == 138_357_544
