"""An encoder in ONNX Runtime gives torch's codes, for any batch, and says so where it cannot."""

import pytest
import torch
from face_photos import example
from torch import nn

import mofaface
from mofaface.code import CodeLayout
from mofaface.crop import crops_to_tensor, cut_crop
from mofaface.detection import detect_faces
from mofaface.encoders import Encoder, EncoderConfig, build_encoder
from mofaface.encoders.alexnet import AlexNet
from mofaface.encoders.head import CodeHead
from mofaface.encoders.vgg import VGG16

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from mofaface.encoders.onnx_encoder import OnnxEncoder  # noqa: E402 - after the packages that they need
from mofaface.encoders.onnx_graph import UnknownOperation, onnx_graph  # noqa: E402

LAYOUT = CodeLayout(shape=5, expression=4, reflectance=3)


def learned(encoder: Encoder) -> Encoder:
    """The encoder with random statistics and a last layer that answers something."""
    random = torch.Generator().manual_seed(1)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=random)
            module.running_var.uniform_(0.7, 1.3, generator=random)
    for parameter in encoder.head.parameters():
        parameter.data.normal_(0, 0.02, generator=random)
    return encoder.eval().requires_grad_(False)


ENCODERS = {
    "grid": lambda: build_encoder(EncoderConfig(input_size=64), LAYOUT),
    "average": lambda: build_encoder(EncoderConfig(input_size=64, readout="average"), LAYOUT),
    "full size": lambda: build_encoder(EncoderConfig(input_size=240), LAYOUT),
    "vgg": lambda: Encoder(VGG16(shrink=16), CodeHead(VGG16(shrink=16).out_features, LAYOUT)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_codes_are_those_of_torch_for_every_batch(name):
    encoder = learned(ENCODERS[name]())
    fast = OnnxEncoder(encoder)
    for batch in (1, 3):
        images = torch.rand(batch, 3, 240, 240, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected, found = encoder(images), fast(images)
        assert any(part.abs().max() > 1e-3 for part in vars(expected).values())
        for part, values in vars(expected).items():
            torch.testing.assert_close(getattr(found, part), values, atol=1e-4, rtol=1e-4)


def test_the_shipped_weights_give_the_same_codes_on_a_face():
    reconstructor = mofaface.load(engine="torch")
    photo = example()
    image = crops_to_tensor([cut_crop(photo, detect_faces(photo).faces[0])])
    encoder = reconstructor.autoencoder.encoder
    with torch.no_grad():
        expected, found = encoder(image), OnnxEncoder(encoder)(image)
    for part, values in vars(expected).items():
        torch.testing.assert_close(getattr(found, part), values, atol=1e-3, rtol=1e-4)


def test_a_network_beyond_the_vocabulary_is_an_error_that_names_the_operation():
    alexnet = Encoder(AlexNet(shrink=16), CodeHead(AlexNet(shrink=16).out_features, LAYOUT))
    with pytest.raises(UnknownOperation, match="aten.*no counterpart"):
        OnnxEncoder(learned(alexnet))


def test_pictures_of_a_batch_may_not_be_mixed():
    with pytest.raises(UnknownOperation, match="may not be mixed"):
        onnx_graph(lambda x: x.reshape(-1, 4), torch.zeros(2, 8))


def test_what_does_not_depend_on_the_picture_is_one_constant():
    scale = torch.rand(8)
    graph = onnx_graph(lambda x: x * (scale * 2 + 1).rsqrt(), torch.zeros(2, 8)).graph
    assert [node.op_type for node in graph.node] == ["Mul", "Identity"] and len(graph.initializer) == 1


def test_the_last_layer_as_one_product_gives_its_codes():
    head = learned(ENCODERS["grid"]()).head
    features = torch.randn(4, head.every.in_features, generator=torch.Generator().manual_seed(0))
    W, b = head.as_product()
    torch.testing.assert_close(features @ W + b, LAYOUT.pack(head(features)), atol=1e-4, rtol=1e-4)


def test_torch_keeps_its_number_of_threads():
    fast = OnnxEncoder(learned(ENCODERS["grid"]()))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        fast(torch.rand(1, 3, 240, 240))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
