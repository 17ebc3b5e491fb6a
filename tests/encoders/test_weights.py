import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.io import savemat
from torch import Tensor

from mofaface.encoders.alexnet import AlexNet
from mofaface.encoders.backbone import Backbone
from mofaface.encoders.mobilenet import MobileNetV2
from mofaface.encoders.vgg import VGG16
from mofaface.encoders.weights import WeightsError, load_pretrained

from .caffe_writer import layers_of, write_caffemodel

MOBILENET_FILE = Path(os.environ.get("MOFAFACE_MOBILENET_WEIGHTS", "mobilenet_v2-b0353104.pth"))


def filled(backbone: Backbone, seed: int = 0) -> Backbone:
    """The backbone with random weights that are not its initial ones."""
    generator = torch.Generator().manual_seed(seed)
    for value in backbone.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator))
    return backbone


def pretrained(backbone: Backbone) -> dict[str, Tensor]:
    state = backbone.state_dict()
    return {name: state[name].clone() for name in backbone.pretrained_shapes()}


def assert_same_weights(one: Backbone, other: Backbone) -> None:
    for (name, a), b in zip(pretrained(one).items(), pretrained(other).values(), strict=True):
        assert torch.equal(a, b), name


def with_classifier(layers: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    return {**layers, "fc8": [np.ones((10, layers["fc7"][0].shape[0]), np.float32), np.ones(10, np.float32)]}


@pytest.mark.parametrize("legacy", [True, False])
def test_caffenet_comes_back_from_its_caffemodel(tmp_path: Path, legacy: bool):
    original = filled(AlexNet(shrink=8))
    write_caffemodel(tmp_path / "caffenet.caffemodel", with_classifier(layers_of(original)), legacy)
    loaded = AlexNet(shrink=8)
    load_pretrained(loaded, tmp_path / "caffenet.caffemodel")
    assert_same_weights(original, loaded)


def test_vgg_face_comes_back_from_its_caffemodel_whose_first_channel_is_blue(tmp_path: Path):
    original = filled(VGG16(shrink=16))
    layers = with_classifier(layers_of(original))
    layers["conv1_1"][0] = layers["conv1_1"][0][:, ::-1].copy()
    write_caffemodel(tmp_path / "VGG_FACE.caffemodel", layers, legacy=True)
    loaded = VGG16(shrink=16)
    load_pretrained(loaded, tmp_path / "VGG_FACE.caffemodel")
    assert_same_weights(original, loaded)


def matconvnet_layers(backbone: Backbone, named: bool) -> np.ndarray:
    """A cell array of structs, filters as height, width, in, out; fc6 is a 7×7 convolution, fc7 a 1×1 one."""
    layers = [{"name": "relu", "type": "relu"}]
    for name, (weight, bias) in layers_of(backbone).items():
        filters = {"fc6": lambda w: w.reshape(w.shape[0], -1, 7, 7), "fc7": lambda w: w[:, :, None, None]}
        weight = filters.get(name, lambda w: w)(weight).transpose(2, 3, 1, 0)
        pair = np.empty((1, 2), object)
        pair[0, 0], pair[0, 1] = weight, bias[:, None]
        learned = {"weights": pair} if named else {"filters": weight, "biases": bias[None]}
        layers.append({"name": name, "type": "conv", **learned})
    cells = np.empty((1, len(layers)), object)
    cells[0] = layers
    return cells


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_vgg_face_comes_back_from_its_matconvnet_file(tmp_path: Path, nested: bool, named: bool):
    original = filled(VGG16(shrink=16))
    layers = matconvnet_layers(original, named)
    savemat(tmp_path / "vgg_face.mat", {"net": {"layers": layers}} if nested else {"layers": layers})
    loaded = VGG16(shrink=16)
    load_pretrained(loaded, tmp_path / "vgg_face.mat")
    assert_same_weights(original, loaded)


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}]
)
def test_vgg_face_comes_back_from_a_state_dict(tmp_path: Path, wrap):
    original = filled(VGG16(shrink=16))
    torch.save(
        wrap({**pretrained(original), "fc8.weight": torch.ones(10, 256)}), tmp_path / "vgg_face_dag.pth"
    )
    loaded = VGG16(shrink=16)
    load_pretrained(loaded, tmp_path / "vgg_face_dag.pth")
    assert_same_weights(original, loaded)


def test_a_state_dict_from_the_lua_edition_takes_blue_first(tmp_path: Path):
    original = filled(VGG16(shrink=16))
    state = {name.replace("conv", "conv_", 1): value for name, value in pretrained(original).items()}
    state["conv_1_1.weight"] = state["conv_1_1.weight"].flip(1)
    torch.save(state, tmp_path / "vgg.pth")
    loaded = VGG16(shrink=16)
    load_pretrained(loaded, tmp_path / "vgg.pth")
    assert_same_weights(original, loaded)


def test_the_channel_order_can_be_told(tmp_path: Path):
    original = filled(AlexNet(shrink=8))
    save_file(pretrained(original), tmp_path / "caffenet.safetensors")
    loaded = AlexNet(shrink=8)
    load_pretrained(loaded, tmp_path / "caffenet.safetensors", channels="rgb")
    assert torch.equal(loaded.conv1.weight, original.conv1.weight.flip(1))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_mobilenet_comes_back_with_its_statistics_and_its_readout_stays(tmp_path: Path, ending: str):
    original = filled(MobileNetV2())
    state = {**pretrained(original), "classifier.1.weight": torch.ones(1000, 1280)}
    (torch.save if ending == ".pth" else save_file)(state, tmp_path / f"mobilenet{ending}")
    loaded = MobileNetV2()
    readout = loaded.readout.last.weight.clone()
    load_pretrained(loaded, tmp_path / f"mobilenet{ending}")
    assert_same_weights(original, loaded)
    assert torch.equal(readout, loaded.readout.last.weight)


def noise_like_photographs(count: int) -> Tensor:
    """Random pictures with a photograph's amplitude spectrum, one over frequency, its range and its grey."""
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(count, 3, 240, 240, generator=generator)
    grey = torch.randn(count, 1, 240, 240, generator=generator)
    frequency = torch.fft.fftfreq(240).square()
    amplitude = (frequency[:, None] + frequency).sqrt().clamp(min=1 / 240).reciprocal()
    pictures = torch.fft.ifft2(torch.fft.fft2(white + 2 * grey) * amplitude).real
    return (0.45 + 0.25 * pictures / pictures.std()).clamp(0, 1)


@pytest.mark.skipif(
    not MOBILENET_FILE.is_file(), reason="set MOFAFACE_MOBILENET_WEIGHTS to torchvision's file"
)
def test_the_public_mobilenet_keeps_activations_in_the_range_of_its_statistics():
    """Wrong colours or scales would show as variances far from those that batch normalisation remembers."""
    backbone = MobileNetV2(input_size=160).eval()
    load_pretrained(backbone, MOBILENET_FILE)
    with torch.inference_mode():
        filtered = backbone.features[0][0](backbone.preprocess(noise_like_photographs(8)))
    ratio = filtered.var(dim=(0, 2, 3)) / backbone.features[0][1].running_var
    assert 0.4 < ratio.median() < 1.6


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("trap",))


def test_a_file_that_wants_to_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("evil.pth").write_bytes(pickle.dumps({"a": Trap()}))
    torch.save({"a": Trap()}, "evil_zip.pth")
    for name in ("evil.pth", "evil_zip.pth"):
        with pytest.raises(WeightsError):
            load_pretrained(MobileNetV2(), name)
    assert not Path("trap").exists()


@pytest.mark.parametrize("ending", [".caffemodel", ".mat", ".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>404 not found</html>", bytes(range(256)) * 8]
)
def test_a_damaged_file_gives_one_clear_sentence(tmp_path: Path, ending: str, content: bytes):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=path.name):
        load_pretrained(AlexNet(shrink=8), path)


def test_a_file_of_another_network_says_what_came_and_what_is_expected(tmp_path: Path):
    save_file(
        {"conv1.weight": torch.zeros(64, 3, 11, 11), "conv1.bias": torch.zeros(64)},
        tmp_path / "a.safetensors",
    )
    with pytest.raises(WeightsError) as error:
        load_pretrained(AlexNet(), tmp_path / "a.safetensors")
    for part in (
        "(64, 3, 11, 11)",
        "(96, 3, 11, 11)",
        "'alexnet'",
        "conv2.weight is missing",
        "a.safetensors",
    ):
        assert part in str(error.value)


def test_a_missing_file_and_an_unknown_ending_are_named(tmp_path: Path):
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_pretrained(AlexNet(shrink=8), tmp_path / "none.pth")
    (tmp_path / "weights.npy").write_bytes(b"1")
    with pytest.raises(WeightsError, match=r"ends in .*\.caffemodel"):
        load_pretrained(AlexNet(shrink=8), tmp_path / "weights.npy")
