"""Photographs of every kind people have, as upright 8-bit sRGB pixels, or one sentence that says why not."""

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, UnidentifiedImageError

MAX_PIXELS = 100_000_000
MIN_SIDE = 16
MID_GREY = 128
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


class PhotoError(ValueError):
    """A photo that cannot be read; the message says what came and what to do."""


@dataclass(frozen=True)
class Photo:
    """One photograph: upright sRGB pixels, the name it came under, and what was done to it ("" mostly)."""

    pixels: UInt8[np.ndarray, "height width 3"]
    name: str = "photo in memory"
    note: str = ""


PhotoSource = str | Path | bytes | np.ndarray | Image.Image | Photo


def read_photo(source: PhotoSource) -> Photo:
    """The photograph in a file, encoded bytes, RGB array (uint8, uint16, float in [0, 1]) or PIL image."""
    if isinstance(source, Photo):
        return source
    if isinstance(source, np.ndarray):
        return _checked(Photo(_pixels_of_array(source)))
    if isinstance(source, Image.Image):
        return _checked(_decode(lambda: source, getattr(source, "filename", "") or "photo in memory"))
    if isinstance(source, (bytes, bytearray)):
        return _checked(_decode(lambda: _open(io.BytesIO(source)), "photo in memory"))
    name = os.fspath(source)
    with _opened_file(name) as file:
        return _checked(_decode(lambda: _open(file), name))


def _opened_file(name: str) -> io.BufferedReader:
    if os.path.isdir(name):
        files = os.path.join(name, "*.jpg")
        raise PhotoError(f"{name} is a directory, not a photo; give the files in it, for example {files}.")
    try:
        file = open(name, "rb")
    except FileNotFoundError:
        raise PhotoError(f"{name} does not exist; check the path.") from None
    except PermissionError:
        raise PhotoError(f"{name} may not be read by this user; change its permissions.") from None
    except (OSError, ValueError) as error:
        raise PhotoError(f"{name} cannot be opened ({error}); check the path.") from None
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise PhotoError(f"{name} is empty (0 bytes); copy the photo again.")
    return file


def _open(file: io.BufferedReader | io.BytesIO) -> Image.Image:
    head = file.read(32)
    file.seek(0)
    if not head:
        raise PhotoError("empty (0 bytes); copy the photo again.")
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        _register_heif()
    if head[:3] == b"\xff\xd8\xff":
        # The plug-in itself, not Image.open: a huge JPEG is shrunk while decoded, so its size is no danger.
        return JpegImagePlugin.JpegImageFile(file)
    return Image.open(file)


def _register_heif() -> None:
    try:
        import pillow_heif
    except ImportError:
        raise PhotoError(
            "a HEIC photo, for which no reader is installed; `pip install pillow-heif`, "
            "or save the photo as JPEG."
        ) from None
    pillow_heif.register_heif_opener()


def _decode(open_image, name: str) -> Photo:
    """The photo that `open_image` gives; whatever goes wrong in a decoder becomes a PhotoError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is the file's business; what matters raises
            image = open_image()
            pixels, note = _upright_srgb(image)
    except PhotoError as error:
        raise PhotoError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise PhotoError(f"{name} is not an image in a known format; save it as JPEG or PNG.") from None
    except Image.DecompressionBombError:
        raise PhotoError(
            f"{name} has more than {MAX_PIXELS // 10**6} million pixels; shrink it first."
        ) from None
    except MemoryError:
        raise PhotoError(f"{name} does not fit into memory; shrink it first.") from None
    except (
        Exception
    ) as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error ... on damaged files
        raise PhotoError(
            f"{name} is truncated or damaged ({_first_line(error)}); copy or export it again."
        ) from error
    return Photo(pixels, name, note)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:100] or type(error).__name__


def _upright_srgb(image: Image.Image) -> tuple[UInt8[np.ndarray, "height width 3"], str]:
    """Pixels and note."""
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        image.seek(0)
        notes.append(f"first of {frames} frames")
    width, height = image.size
    if width * height > MAX_PIXELS:
        _shrink_while_decoding(image)
        notes.append(f"read at {image.size[0]}×{image.size[1]} instead of {width}×{height} pixels")
    image.load()
    try:
        image = ImageOps.exif_transpose(image) or image
    except Exception:  # a damaged EXIF block: the picture itself is still good
        notes.append("orientation unknown: damaged EXIF")
    return _srgb_pixels(image), "; ".join(notes)


def _shrink_while_decoding(image: Image.Image) -> None:
    width, height = image.size
    # Progressive files keep every coefficient in memory whatever the scale.
    if image.format == "JPEG" and not image.info.get("progressive"):
        ratio = (MAX_PIXELS / 4 / (width * height)) ** 0.5
        image.draft(image.mode, (max(1, int(width * ratio)), max(1, int(height * ratio))))
    if image.size[0] * image.size[1] > MAX_PIXELS:
        raise PhotoError(
            f"{width}×{height} pixels are more than the {MAX_PIXELS // 10**6} million "
            "that are read; shrink the photo first."
        )


def _srgb_pixels(image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    if image.mode.startswith(("I", "F")):
        return _pixels_of_array(_to_unit_range(np.asarray(image, np.float64)))
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float64)[..., None] / 255.0
        profile = image.info.get("icc_profile")
        image = image.convert("RGB")
        image.info["icc_profile"] = profile
    pixels = np.array(_to_srgb(image))
    if alpha is None:
        return pixels
    return np.rint(alpha * pixels + (1 - alpha) * MID_GREY).astype(np.uint8)


def _to_srgb(image: Image.Image) -> Image.Image:
    """An RGB image in sRGB; the embedded profile is obeyed where there is one that works."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("L", "RGB", "CMYK", "LAB"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
                return image
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB") or image.convert("RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a damaged or foreign profile: the plain conversion is the next best
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_unit_range(values: np.ndarray) -> np.ndarray:
    """Samples of unknown depth in [0, 1]: the depth is the smallest usual one that holds them."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).clip(0.0)
    peak = float(values.max(initial=0.0))
    whites = [white for white in (1.0, 255.0, 65535.0) if peak <= white]
    # A 16-bit picture whose brightest sample is below 256 is black to the eye either way.
    return values / (whites[0] if whites else peak)


def _pixels_of_array(array: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    """8-bit RGB of a grey, RGB or RGBA array of any usual type."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise PhotoError(
            "a photo as an array is (height, width), (height, width, 3) in RGB order or "
            f"(height, width, 4); an array of shape {array.shape} came."
        )
    unit = _unit_floats(array)
    if unit.shape[2] == 4:
        unit = unit[..., 3:] * unit[..., :3] + (1 - unit[..., 3:]) * (MID_GREY / 255.0)
    elif array.dtype == np.uint8 and array.shape[2] == 3:
        return np.ascontiguousarray(array)
    pixels = np.rint(unit * 255.0).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _unit_floats(array: np.ndarray) -> np.ndarray:
    if array.dtype == bool:
        return array.astype(np.float32)
    if array.dtype in (np.uint8, np.uint16):
        return array.astype(np.float32) / np.iinfo(array.dtype).max
    if np.issubdtype(array.dtype, np.floating):
        unit = np.nan_to_num(array, nan=0.0)
        if unit.min() < -1e-3 or unit.max() > 1 + 1e-3:
            raise PhotoError(
                f"a photo of floats lies in [0, 1]; values from {unit.min():.3g} to {unit.max():.3g} "
                "came; divide by the white value."
            )
        return unit.clip(0.0, 1.0)
    raise PhotoError(f"a photo as an array is uint8, uint16, bool or float; {array.dtype} came; convert it.")


def _checked(photo: Photo) -> Photo:
    height, width = photo.pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise PhotoError(
            f"{photo.name}: {width}×{height} pixels are too few to show a face; "
            f"at least {MIN_SIDE} each way are needed."
        )
    if height * width > MAX_PIXELS:
        raise PhotoError(
            f"{photo.name}: {width}×{height} pixels are more than the {MAX_PIXELS // 10**6} million "
            "that are read; shrink the photo first."
        )
    return photo
