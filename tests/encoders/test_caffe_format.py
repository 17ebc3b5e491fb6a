from pathlib import Path

import cv2
import numpy as np
import pytest

from mofaface.encoders.caffe_format import CaffeFormatError, read_caffemodel

from .caffe_writer import write_caffemodel


@pytest.fixture
def layers() -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = {"conv1": ((300, 3, 1, 2), (300,)), "fc6": ((5, 7), (5,))}
    return {name: [rng.normal(size=s).astype(np.float32) for s in pair] for name, pair in shapes.items()}


def test_reads_what_the_current_layout_holds(tmp_path: Path, layers: dict[str, list[np.ndarray]]):
    write_caffemodel(tmp_path / "net.caffemodel", layers, legacy=False)
    read = read_caffemodel(tmp_path / "net.caffemodel")
    assert list(read) == ["conv1", "fc6"]
    for name, blobs in layers.items():
        for written, came in zip(blobs, read[name], strict=True):
            np.testing.assert_array_equal(written, came)


def test_reads_the_layout_of_2014_with_its_four_sizes(tmp_path: Path, layers: dict[str, list[np.ndarray]]):
    write_caffemodel(tmp_path / "net.caffemodel", layers, legacy=True)
    read = read_caffemodel(tmp_path / "net.caffemodel")
    np.testing.assert_array_equal(read["conv1"][0], layers["conv1"][0])
    assert read["fc6"][0].shape == (1, 1, 5, 7)
    np.testing.assert_array_equal(read["fc6"][0][0, 0], layers["fc6"][0])


@pytest.mark.parametrize("legacy", [True, False])
def test_opencv_reads_the_same_numbers(tmp_path: Path, legacy: bool):
    """OpenCV reads by the original caffe.proto: writer and reader here are not just each other's twins."""
    rng = np.random.default_rng(1)
    layers = {
        "conv1": [rng.normal(size=(4, 3, 3, 3)).astype(np.float32), rng.normal(size=4).astype(np.float32)]
    }
    write_caffemodel(tmp_path / "net.caffemodel", layers, legacy)
    (tmp_path / "net.prototxt").write_text(
        'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 layer { name: "conv1" '
        'type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 4 kernel_size: 3 } }'
    )
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    np.testing.assert_array_equal(
        net.getParam("conv1", 0), read_caffemodel(tmp_path / "net.caffemodel")["conv1"][0]
    )


@pytest.mark.parametrize("keep", [0, 1, 7, 20, 500, 1000])
def test_a_truncated_file_is_refused(tmp_path: Path, layers: dict[str, list[np.ndarray]], keep: int):
    write_caffemodel(tmp_path / "net.caffemodel", layers, legacy=False)
    cut = (tmp_path / "net.caffemodel").read_bytes()[:keep]
    (tmp_path / "net.caffemodel").write_bytes(cut)
    with pytest.raises(CaffeFormatError):
        read_caffemodel(tmp_path / "net.caffemodel")
