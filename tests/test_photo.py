"""Every kind of image file people have gives the right pixels or one clear sentence."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mofaface.photo import MAX_PIXELS, PhotoError, read_photo

RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
GREY16 = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_16_bit_rgb(pixels: np.ndarray) -> bytes:
    """PNG with 16 bits a channel, which Pillow does not write."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    data = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_header_chunk(width, height, 16) + data


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises far more pixels than it holds."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_header_chunk(width, height, 8)
        + png_chunk(b"IDAT", zlib.compress(b"\0" * 99))
    )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header_chunk(width: int, height: int, depth: int) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))


def message(source: object) -> str:
    with pytest.raises(PhotoError) as caught:
        read_photo(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_lossless_file_gives_its_pixels_and_its_name(tmp_path: Path):
    path = tmp_path / "photo.png"
    Image.fromarray(RGB).save(path)
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.pixels, RGB)
    assert photo.name == str(path) and photo.note == ""


def test_bytes_arrays_and_images_are_read_alike():
    for source in (
        encoded(Image.fromarray(RGB)),
        RGB,
        Image.fromarray(RGB),
        RGB / 255.0,
        RGB * np.uint16(257),
    ):
        np.testing.assert_array_equal(read_photo(source).pixels, RGB)


def test_a_wrong_extension_does_not_matter(tmp_path: Path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(Image.fromarray(RGB)))
    np.testing.assert_array_equal(read_photo(path).pixels, RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_gives_the_upright_picture(orientation: int):
    undo = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB), 7: RGB[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(RGB, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation]))
    np.testing.assert_array_equal(read_photo(encoded(stored, exif=exif)).pixels, RGB)


def test_a_damaged_exif_block_is_no_reason_to_refuse():
    data = encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_photo(data).pixels.shape == RGB.shape


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_colour_modes_become_the_same_rgb_as_pillow_gives(mode: str):
    image = Image.fromarray(RGB).convert(mode)
    data = encoded(image, "TIFF")
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(read_photo(data).pixels - expected).max() <= 2


def test_grey_with_16_bits_is_scaled_not_clipped():
    for format in ("PNG", "TIFF"):
        pixels = read_photo(encoded(Image.fromarray(GREY16), format)).pixels
        assert np.abs(pixels - GREY16[..., None] / 257.0).max() <= 1.0


def test_colour_with_16_bits_is_scaled_not_clipped():
    deep = np.stack([GREY16, GREY16[::-1], GREY16[:, ::-1]], axis=-1)
    assert np.abs(read_photo(png_16_bit_rgb(deep)).pixels - deep / 257.0).max() <= 1.0


def test_grey_in_floats_is_read():
    image = Image.fromarray((GREY16 / 65535.0).astype(np.float32))
    assert np.abs(read_photo(encoded(image, "TIFF")).pixels - GREY16[..., None] / 257.0).max() <= 1.0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_lie_over_mid_grey(mode: str):
    image = Image.fromarray(RGB).convert("RGBA")
    image.putalpha(Image.fromarray(np.where(np.arange(40) < 20, 0, 255).astype(np.uint8)[None].repeat(24, 0)))
    pixels = read_photo(encoded(image.convert(mode))).pixels
    assert (pixels[:, :20] == 128).all()
    expected = np.asarray(image.convert(mode).convert("RGB"))
    np.testing.assert_array_equal(pixels[:, 20:], expected[:, 20:])


def test_of_an_animation_the_first_frame_is_read_and_said():
    frames = [Image.fromarray(np.full((20, 20, 3), level, np.uint8)) for level in (200, 100, 0)]
    photo = read_photo(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (photo.pixels == 200).all() and photo.note == "first of 3 frames"


def test_an_embedded_profile_is_obeyed():
    linear = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    lab = Image.merge("LAB", [Image.new("L", (20, 20), v) for v in (128, 128, 128)])
    pixels = read_photo(encoded(lab, "TIFF", icc_profile=linear.tobytes())).pixels
    assert np.abs(pixels.astype(int) - 119).max() <= 4  # L* = 50 is sRGB grey 119


def test_a_broken_profile_is_ignored():
    data = encoded(Image.fromarray(RGB), icc_profile=b"not a profile")
    np.testing.assert_array_equal(read_photo(data).pixels, RGB)


def test_missing_directory_and_empty_files_are_named(tmp_path: Path):
    (tmp_path / "empty.jpg").touch()
    assert "does not exist" in message(tmp_path / "none.jpg")
    assert "is a directory" in message(tmp_path)
    assert "is empty" in message(tmp_path / "empty.jpg")
    assert "empty" in message(b"")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_says_permissions(tmp_path: Path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(Image.fromarray(RGB)))
    path.chmod(0)
    assert "permissions" in message(path)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_a_truncated_file_is_a_sentence_whatever_the_format(format: str):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, format)
    assert "photo in memory" in message(data[: len(data) // 2])


def test_random_damage_never_raises_anything_but_photo_error():
    rng = np.random.default_rng(2)
    for format in ("PNG", "JPEG", "TIFF", "GIF", "WEBP"):
        clean = np.frombuffer(encoded(Image.fromarray(RGB), format), np.uint8)
        for _ in range(20):
            damaged = clean.copy()
            damaged[rng.integers(0, len(clean), 8)] = rng.integers(0, 256, 8)
            try:
                assert read_photo(damaged.tobytes()).pixels.dtype == np.uint8
            except PhotoError:
                pass


def test_what_is_no_image_says_so(tmp_path: Path):
    path = tmp_path / "notes.jpg"
    path.write_text("Dear diary")
    assert "not an image" in message(path)


def test_heic_without_a_reader_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    assert "pip install pillow-heif" in message(b"\0\0\0\x18ftypheic" + b"\0" * 64)


def test_one_pixel_is_too_few():
    assert "1×1 pixels are too few" in message(encoded(Image.new("RGB", (1, 1))))


def test_a_huge_picture_is_refused_before_it_is_decoded():
    assert "100 million" in message(png_header(20_000, 20_000))


def test_a_huge_jpeg_is_shrunk_while_it_is_decoded(monkeypatch: pytest.MonkeyPatch):
    data = encoded(Image.new("RGB", (800, 640), (10, 120, 200)), "JPEG")
    monkeypatch.setattr("mofaface.photo.MAX_PIXELS", 200_000)
    photo = read_photo(data)
    assert photo.pixels.shape == (320, 400, 3) or photo.pixels.shape == (160, 200, 3)
    assert "instead of 800×640" in photo.note
    assert np.abs(photo.pixels.astype(int) - [10, 120, 200]).max() <= 3


def test_arrays_of_a_wrong_shape_or_type_are_named():
    assert "(7,)" in message(np.zeros(7))
    assert "complex" in message(np.zeros((20, 20), complex))
    assert "divide by" in message(np.full((20, 20, 3), 200.0))
    assert MAX_PIXELS == 100_000_000
