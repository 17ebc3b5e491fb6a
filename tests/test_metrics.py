from dataclasses import replace

import plain_decoder as plain
import torch
from little_face import smooth_image
from test_decoder import decode_plain

from mofaface.metrics import landmark_error, photometric_error


def test_photometric_error_is_the_mean_over_front_facing_vertices(decoder, code):
    image = torch.cat([smooth_image(seed) for seed in (0, 1)])
    ours = photometric_error(image, decoder(code))
    for b in range(2):
        twin = decode_plain(decoder, code, b)
        truth = plain.photometric(image[b].numpy(), twin) * 81 / len(twin.visible)
        assert abs(ours[b].item() - truth) < 1e-12


def test_photometric_error_without_a_front_facing_vertex_is_zero(decoder, code):
    face = decoder(code)
    hidden = replace(face, front=torch.zeros_like(face.front))
    assert not photometric_error(torch.cat([smooth_image()] * 2), hidden).any()


def test_landmark_error_is_the_mean_distance_in_pixels(decoder, code):
    face, vertices = decoder(code), decoder.model.landmarks_46
    places = face.uv_crop[:, vertices] + torch.tensor([3.0, -4.0]).double()
    torch.testing.assert_close(landmark_error(face, vertices, places), torch.full((2,), 5.0).double())


def test_landmark_error_counts_each_point_by_its_confidence(decoder, code):
    face, vertices = decoder(code), decoder.model.landmarks_46
    places = face.uv_crop[:, vertices].clone()
    places[:, 0, 0] += 10
    confidence = torch.zeros(2, 46).double()
    confidence[:, :4] = 0.5
    torch.testing.assert_close(
        landmark_error(face, vertices, places, confidence), torch.full((2,), 2.5).double()
    )
    nothing = landmark_error(face, vertices, places, torch.zeros(2, 46).double())
    assert not nothing.any()
