import torch

from mofaface.code import CodeLayout
from mofaface.encoders.build import EncoderConfig, build_encoder
from mofaface.encoders.timing import measure_encoder


def test_a_step_takes_longer_than_a_prediction():
    layout = CodeLayout(shape=3, expression=2, reflectance=4)
    timing = measure_encoder(build_encoder(EncoderConfig(input_size=64), layout), layout, batch=2, repeats=2)
    assert 0 < timing.forward < timing.step
    assert torch.is_grad_enabled()
