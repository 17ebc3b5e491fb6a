"""YuNet by ONNX Runtime finds what OpenCV's own YuNet finds."""

import cv2
import numpy as np
import pytest
from face_photos import EXAMPLES, example, needs_examples, noise_photo

from mofaface.detection import YUNET_PATH, YUNET_SCORE, detect_faces
from mofaface.photo import Photo

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from mofaface.yunet import decoded, float_graph, yunet  # noqa: E402 - after the packages that it needs

pytestmark = needs_examples


def opencv(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    network = cv2.FaceDetectorYN.create(str(YUNET_PATH), "", (width, height), YUNET_SCORE, 0.3, 500)
    rows = network.detect(pixels[..., ::-1].copy())[1]
    return np.zeros((0, 15)) if rows is None else rows


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.jpg")), ids=lambda path: path.stem)
def test_boxes_points_and_scores_are_those_of_opencv(path):
    pixels = example(path.name).pixels
    rows = yunet(YUNET_PATH)(pixels, YUNET_SCORE)
    assert len(rows) >= 1
    np.testing.assert_allclose(rows, opencv(pixels), atol=2e-3)


def test_many_faces_and_odd_sizes_are_those_of_opencv():
    pixels = example().pixels
    small = cv2.resize(pixels, None, fx=0.31, fy=0.31, interpolation=cv2.INTER_AREA)
    for picture in (np.tile(small, (3, 4, 1)), pixels[:333, :411], pixels[::3, ::2]):
        picture = np.ascontiguousarray(picture)
        rows, expected = yunet(YUNET_PATH)(picture, YUNET_SCORE), opencv(picture)
        np.testing.assert_allclose(rows, expected, atol=5e-3)
    assert len(yunet(YUNET_PATH)(np.tile(small, (3, 4, 1)), YUNET_SCORE)) == 12


def test_no_face_is_no_row():
    assert yunet(YUNET_PATH)(noise_photo().pixels, YUNET_SCORE).shape == (0, 15)


def test_both_engines_detect_the_same_faces():
    for photo in (example(), noise_photo(), Photo(np.ascontiguousarray(example().pixels[60:300, 80:330]))):
        fast, plain = (detect_faces(photo, engine=engine) for engine in ("onnxruntime", "torch"))
        assert len(fast.faces) == len(plain.faces) and fast.reason == plain.reason
        for a, b in zip(fast.faces, plain.faces, strict=True):
            np.testing.assert_allclose(
                [a.x, a.y, a.width, a.height], [b.x, b.y, b.width, b.height], atol=1e-2
            )


def test_a_cell_is_decoded_at_its_place():
    cells = 6  # three columns, two rows; the face is in the second row's last cell
    score = np.zeros((cells, 1), np.float32)
    score[5] = 0.81
    box, points = np.zeros((cells, 4), np.float32), np.zeros((cells, 10), np.float32)
    box[5] = (0.5, -0.5, np.log(4.0), np.log(2.0))
    points[5, :2] = (0.25, 1.0)
    (row,) = decoded(score, np.ones_like(score), box, points, stride=8, columns=3, least=0.6)
    # Cell (2, 1): centre ((2 + 0.5) 8, (1 - 0.5) 8), size 32 × 16.
    np.testing.assert_allclose(row[:4], [20 - 16, 4 - 8, 32, 16], rtol=1e-6)
    np.testing.assert_allclose(row[4:8], [18, 16, 16, 8], rtol=1e-6)
    assert row[14] == pytest.approx(0.9)


def test_the_graph_holds_no_8_bit_weights_and_is_open_in_size():
    graph = float_graph(onnx.load(YUNET_PATH)).graph
    assert not {"DequantizeLinear"} & {node.op_type for node in graph.node}
    sizes = graph.input[0].type.tensor_type.shape.dim[2:]
    assert [side.dim_param for side in sizes] == ["height", "width"]
