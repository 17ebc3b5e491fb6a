import pytest
import torch

from mofaface.encoders.efficientnet import EfficientNetLite2
from mofaface.encoders.weights import load_pretrained


def test_the_network_has_the_parameters_of_its_authors():
    """6,092,072 with the classifier (1280 → 1000): 6.1 million, as the Lite edition's page says of Lite2."""
    backbone = EfficientNetLite2(readout="average")
    assert sum(p.numel() for p in backbone.parameters()) + 1281 * 1000 == pytest.approx(6.09e6, rel=1e-3)


def test_maps_are_read_where_the_size_has_fallen_to_a_sixteenth_and_a_thirty_second():
    backbone = EfficientNetLite2(192, "narrow").eval()
    with torch.inference_mode():
        middle = backbone.features[: backbone.plan.middle](torch.rand(1, 3, 192, 192))
        last = backbone.features[backbone.plan.middle :](middle)
        features = backbone(torch.rand(1, 3, 240, 240))
    assert middle.shape == (1, backbone.plan.middle_channels, 12, 12)
    assert last.shape == (1, 352, 6, 6)
    assert features.shape == (1, 32 * 12**2 + 96 * 6**2 + 352) == (1, backbone.out_features)


def test_weights_with_the_published_names_are_read(tmp_path):
    """A file as the Lite edition's converters write it: the stem, blocks without and with expansion, the head."""
    torch.manual_seed(0)
    source, target = EfficientNetLite2(64, "average"), EfficientNetLite2(64, "average")
    torch.save({_published(name): t for name, t in source.state_dict().items()}, tmp_path / "lite2.pth")
    load_pretrained(target, tmp_path / "lite2.pth")
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], tensor, rtol=0, atol=0)


def _published(name: str) -> str:
    """One of our names as the published files have it."""
    _, number, *rest = name.split(".")
    kinds = {"0.0": "_conv_stem", "0.1": "_bn0", "22.0": "_conv_head", "22.1": "_bn1"}
    if rest[0] != "conv":
        return f"{kinds[f'{number}.{rest[0]}']}.{rest[1]}"
    place = ".".join(rest[1:-1])
    first = {"0.0": "_depthwise_conv", "0.1": "_bn1", "1": "_project_conv", "2": "_bn2"}
    later = {
        "0.0": "_expand_conv",
        "0.1": "_bn0",
        "1.0": "_depthwise_conv",
        "1.1": "_bn1",
        "2": "_project_conv",
        "3": "_bn2",
    }
    return f"_blocks.{int(number) - 1}.{(first if number == '1' else later)[place]}.{rest[-1]}"
