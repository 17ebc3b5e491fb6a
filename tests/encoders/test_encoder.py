import torch

from mofaface.code import CodeLayout
from mofaface.encoders.build import EncoderConfig, build_encoder

LAYOUT = CodeLayout(shape=3, expression=2, reflectance=4)


def test_the_groups_hold_every_parameter_once_and_z_moves_only_the_z_translation():
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(input_size=64), LAYOUT).eval()
    groups = encoder.parameter_groups()
    assert set(groups) == {"z", "backbone", "rest"}
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    assert all(names[id(p)].startswith("backbone.features.") for p in groups["backbone"])
    assert {names[id(p)].split(".")[1] for p in groups["rest"]} == {"readout", "every"}
    every = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(every) == sorted(id(parameter) for parameter in encoder.parameters())
    for parameter in groups["z"]:
        torch.nn.init.ones_(parameter)
    code = encoder(torch.rand(1, 3, 240, 240))
    assert code.translation[0, 2] != 0
    untouched = LAYOUT.pack(code) == 0
    assert (~untouched).sum() == 1


def test_gradients_reach_the_first_convolution_after_one_step():
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(input_size=64), LAYOUT).train()
    optimiser = torch.optim.Adadelta(encoder.parameters(), lr=1.0)
    for _ in range(2):
        optimiser.zero_grad()
        (LAYOUT.pack(encoder(torch.rand(2, 3, 240, 240))) - 1).square().sum().backward()
        optimiser.step()
    assert encoder.backbone.features[0][0].weight.grad.abs().max() > 0
