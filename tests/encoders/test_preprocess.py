import numpy as np
import torch

from mofaface.encoders.preprocess import InputFormat, Preprocess, caffe_format, resize


def test_a_caffe_network_gets_blue_first_in_0_to_255_minus_its_mean():
    images = torch.zeros(1, 3, 4, 4)
    images[:, 0] = 1.0  # red
    prepared = Preprocess(caffe_format(4, (10.0, 20.0, 30.0), bgr=True))(images)
    np.testing.assert_allclose(prepared[0, :, 0, 0], [-10.0, -20.0, 225.0], atol=1e-4)


def test_a_torchvision_network_gets_standardised_red_first():
    images = torch.full((1, 3, 4, 4), 0.5)
    prepared = Preprocess(InputFormat(4, (0.5, 0.4, 0.3), (0.1, 0.2, 0.4)))(images)
    np.testing.assert_allclose(prepared[0, :, 0, 0], [0.0, 0.5, 0.5], atol=1e-6)


def test_resize_is_a_pure_scale():
    """A ramp that says where each pixel's centre is still says so afterwards, away from the border.

    The filter is sampled at whole pixels: a place is off by up to a twentieth of a pixel, but not on average.
    """
    centres = (torch.arange(240) + 0.5).expand(1, 3, 240, 240).contiguous()
    for size in (227, 224, 160, 128):
        expected = (torch.arange(size) + 0.5) * 240 / size
        off = (resize(centres, size)[0, 0, 0] - expected)[4:-4]
        assert off.abs().max() < 0.06
        assert off.mean().abs() < 0.002


def test_resize_filters_what_the_small_picture_cannot_hold():
    stripes = (torch.arange(240) % 2).float().expand(1, 3, 240, 240).contiguous()
    assert (resize(stripes, 120)[..., 4:-4] - 0.5).abs().max() < 0.01


def test_constants_are_not_part_of_a_checkpoint():
    assert not Preprocess(InputFormat(4, (0.5,) * 3, (0.1,) * 3)).state_dict()
