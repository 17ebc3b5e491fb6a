import pytest
import torch

from mofaface.code import CodeLayout
from mofaface.encoders.head import CodeGains, CodeHead

LAYOUT = CodeLayout(shape=3, expression=2, reflectance=4)
ONES = CodeGains(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_the_first_prediction_is_the_zero_code():
    head = CodeHead(5, LAYOUT)
    assert torch.equal(LAYOUT.pack(head(torch.randn(2, 5))), LAYOUT.pack(LAYOUT.zero(2)))


def test_gains_of_one_give_the_plain_layer_apart_from_z():
    torch.manual_seed(0)
    head = CodeHead(5, LAYOUT, ONES)
    torch.nn.init.normal_(head.every.weight)
    torch.nn.init.normal_(head.z.weight)
    features = torch.randn(2, 5)
    code, plain = head(features), LAYOUT.unpack(head.every(features))
    assert torch.equal(code.alpha, plain.alpha) and torch.equal(code.gamma, plain.gamma)
    assert torch.equal(code.translation[:, :2], plain.translation[:, :2])
    assert torch.equal(code.translation[:, 2:], head.z(features))


def test_each_gain_scales_its_own_quantity():
    head = CodeHead(5, LAYOUT, CodeGains(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0))
    torch.nn.init.ones_(head.every.bias)
    torch.nn.init.ones_(head.z.bias)
    code = head(torch.randn(1, 5))
    groups = (
        code.alpha,
        code.delta,
        code.beta,
        code.rotation,
        code.translation[:, :2],
        code.translation[:, 2:],
    )
    for expected, values in enumerate((*groups, code.gamma), start=1):
        assert torch.equal(values, torch.full_like(values, float(expected)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_code_keeps_the_precision_of_the_layer_under_autocast(dtype: torch.dtype):
    head = CodeHead(5, LAYOUT).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        code = head(torch.randn(2, 5, dtype=torch.bfloat16))
    assert code.translation.dtype == dtype
