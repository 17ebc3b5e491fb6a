import pytest
import torch
from torch import nn

from mofaface.encoders.inverted_residuals import GridReadout, _normalised, dead_channels
from mofaface.encoders.mobilenet import MobileNetV2


def test_the_network_has_the_parameters_of_torchvision():
    """3,504,872 with the classifier (1280 → 1000), as torchvision documents mobilenet_v2."""
    backbone = MobileNetV2(readout="average")
    assert sum(parameter.numel() for parameter in backbone.parameters()) + 1281 * 1000 == 3_504_872


def test_names_are_those_of_torchvision():
    shapes = MobileNetV2().pretrained_shapes()
    assert shapes["features.0.0.weight"] == (32, 3, 3, 3)
    assert shapes["features.1.conv.1.weight"] == (16, 32, 1, 1)
    assert shapes["features.2.conv.1.0.weight"] == (96, 1, 3, 3)
    assert shapes["features.17.conv.3.running_var"] == (320,)
    assert shapes["features.18.0.weight"] == (1280, 320, 1, 1)
    assert not any(name.startswith("readout") for name in shapes)


@pytest.mark.parametrize(("size", "cells"), [(112, (7, 4)), (128, (8, 4)), (160, (10, 5)), (150, (10, 5))])
def test_the_grid_readout_has_32_and_96_features_per_cell_before_the_averages(
    size: int, cells: tuple[int, int]
):
    backbone = MobileNetV2(input_size=size).eval()
    with torch.inference_mode():
        features = backbone(torch.rand(1, 3, 240, 240))
    assert features.shape == (1, 32 * cells[0] ** 2 + 96 * cells[1] ** 2 + 1280) == (1, backbone.out_features)


def test_the_grid_readout_knows_where_things_are():
    readout = GridReadout(64, middle_channels=2, last_channels=3, seen=(96, 1280))
    middle_map, last_map = torch.zeros(2, 96, 4, 4), torch.zeros(2, 1280, 2, 2)
    middle_map[0, :, 0, 0] = middle_map[1, :, 3, 3] = 1
    with torch.inference_mode():
        here, there = readout(middle_map, last_map)
    assert (here - there).abs().max() > 0.01


def test_the_narrow_readout_ends_before_the_layer_that_widens():
    backbone = MobileNetV2(input_size=128, readout="narrow").eval()
    assert len(backbone.features) == 18
    with torch.inference_mode():
        features = backbone(torch.rand(1, 3, 240, 240))
    assert features.shape == (1, 32 * 8**2 + 96 * 4**2 + 320) == (1, backbone.out_features)
    grid = MobileNetV2(input_size=128).pretrained_shapes()
    assert grid.items() > backbone.pretrained_shapes().items()


def test_the_last_blocks_may_learn_statistics_while_the_others_keep_theirs():
    backbone = MobileNetV2(input_size=64, freeze_norm=True, frozen_blocks=2, living_norm=5).train()
    norms = {n: m for n, m in backbone.features.named_modules() if isinstance(m, nn.BatchNorm2d)}
    before = {name: norm.running_mean.clone() for name, norm in norms.items()}
    backbone(torch.rand(2, 3, 240, 240))
    moved = {
        int(name.split(".")[0])
        for name, norm in norms.items()
        if not torch.equal(before[name], norm.running_mean)
    }
    assert moved == {14, 15, 16, 17, 18}


def test_frozen_statistics_stay_while_training_and_others_move():
    for freeze in (True, False):
        backbone = MobileNetV2(input_size=64, freeze_norm=freeze).train()
        before = backbone.features[0][1].running_mean.clone()
        backbone(torch.rand(2, 3, 240, 240))
        assert torch.equal(before, backbone.features[0][1].running_mean) == freeze


def test_fixed_statistics_folded_into_the_weights_change_neither_features_nor_gradients():
    torch.manual_seed(0)
    convolution, norm = (
        nn.Conv2d(4, 6, 3, 2, 1, groups=2, bias=False).double(),
        nn.BatchNorm2d(6).double().eval(),
    )
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(value, 0.5, 2.0)
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64, requires_grad=True)
    inputs = (x, convolution.weight, norm.weight, norm.bias)
    plain, folded = norm(convolution(x)), _normalised(convolution, norm, x)
    torch.testing.assert_close(folded, plain)
    outside = torch.randn_like(plain)
    gradients = [torch.autograd.grad(y, inputs, outside) for y in (plain, folded)]
    torch.testing.assert_close(*gradients)


def test_frozen_blocks_learn_nothing_and_the_others_all_do():
    backbone = MobileNetV2(input_size=64, frozen_blocks=4).train()
    before = backbone.features[3].conv[1][1].running_mean.clone()
    backbone(torch.rand(2, 3, 240, 240)).square().sum().backward()
    assert torch.equal(before, backbone.features[3].conv[1][1].running_mean)
    assert all(parameter.grad is None for parameter in backbone.features[:4].parameters())
    assert all(parameter.grad is not None for parameter in backbone.features[4:].parameters())


def test_dead_channels_are_counted_in_their_layer():
    torch.manual_seed(0)
    backbone = MobileNetV2(input_size=64).eval()
    images = torch.rand(2, 3, 240, 240)
    before = dead_channels(backbone, images)
    with torch.no_grad():
        backbone.features[18][1].bias[:320] = -100.0
    after = dead_channels(backbone, images)
    assert after["18"] >= 0.25 and after["18"] > before["18"]
    assert {k: v for k, v in after.items() if k != "18"} == {k: v for k, v in before.items() if k != "18"}
