import pytest
import torch

from mofaface.code import CodeLayout
from mofaface.encoders.build import EncoderConfig, EncoderName, build_encoder

LAYOUT = CodeLayout()


@pytest.mark.parametrize("name", ["mobilenet", "alexnet", "vgg"])
def test_the_first_prediction_is_the_average_face(name: EncoderName):
    encoder = build_encoder(name, LAYOUT).eval()
    with torch.inference_mode():
        code = LAYOUT.pack(encoder(torch.rand(1, 3, 240, 240)))
    assert torch.equal(code, torch.zeros(1, LAYOUT.size))


def test_a_name_is_short_for_the_configuration_with_its_defaults():
    short, long = build_encoder("mobilenet", LAYOUT), build_encoder(EncoderConfig("mobilenet"), LAYOUT)
    shapes = [{k: v.shape for k, v in encoder.state_dict().items()} for encoder in (short, long)]
    assert shapes[0] == shapes[1]


def test_the_configuration_reaches_the_network():
    config = EncoderConfig(input_size=112, readout="average", freeze_norm=True)
    backbone = build_encoder(config, LAYOUT).backbone
    assert backbone.preprocess.format.size == 112
    assert backbone.out_features == 1280
    assert backbone.freeze_norm
