"""Pictures for people: faces drawn over their photo, surfaces, light, and sheets of all of these.

Pictures are arrays (height, width, 3) of 8-bit RGB; places are pixels with (0, 0) at the picture's corner.
What is drawn comes as plain arrays: places in pixels, depth in mm, triangles, colours in [0, 1] as sRGB.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor

from mofaface.decoder import Face, illuminate
from mofaface.face_model import FaceModel
from mofaface.files import written_whole
from mofaface.rasterizer import covered_box, render

Picture = UInt8[np.ndarray, "_ _ 3"]

BACKGROUND = 1.0
CLAY = np.array([0.86, 0.86, 0.86])
# From the upper left, weak from the right, and a little from everywhere; camera axes, y down.
CLAY_LIGHTS = ((0.75, (-0.55, -0.65, -0.52)), (0.15, (0.90, 0.10, -0.42)))
CLAY_AMBIENT = 0.06
MOST_SAMPLES = 2**21
LABEL_HEIGHT = 26


def overlay(
    photo: UInt8[np.ndarray, "height width 3"],
    uv: Float[np.ndarray, "vertices 2"],
    depth: Float[np.ndarray, " vertices"],
    triangles: Int[np.ndarray, "faces 3"],
    colours: Float[np.ndarray, "vertices 3"],
    opacity: float = 1.0,
) -> UInt8[np.ndarray, "height width 3"]:
    """The photo with the coloured surface drawn over it, edges anti-aliased; outside, nothing changes."""
    picture = photo.copy()
    x0, y0, x1, y1 = covered_box(uv, depth, *photo.shape[:2])
    if x1 <= x0:
        return picture
    moved = uv.astype(np.float64) - (x0, y0)
    size = (y1 - y0, x1 - x0)
    face = render(moved, depth, triangles, np.clip(colours, 0.0, 1.0), *size, supersample=_samples(*size))
    window = picture[y0:y1, x0:x1]
    alpha = opacity * face[..., 3:]
    window[...] = np.round(window * (1.0 - alpha) + 255.0 * alpha * face[..., :3])
    return picture


def surface(
    uv: Float[np.ndarray, "vertices 2"],
    depth: Float[np.ndarray, " vertices"],
    triangles: Int[np.ndarray, "faces 3"],
    colours: Float[np.ndarray, "vertices 3"],
    height: int,
    width: int,
    background: float = BACKGROUND,
) -> UInt8[np.ndarray, "height width 3"]:
    """The coloured surface alone, before an even grey in [0, 1]."""
    empty = np.full((height, width, 3), round(255 * background), dtype=np.uint8)
    return overlay(empty, uv, depth, triangles, colours)


def clay_colours(n_camera: Float[np.ndarray, "vertices 3"]) -> Float[np.ndarray, "vertices 3"]:
    """Grey colours in [0, 1] that show the shape of a surface with these unit normals in camera space."""
    shading = np.full(len(n_camera), CLAY_AMBIENT)
    for strength, direction in CLAY_LIGHTS:
        towards = np.asarray(direction) / np.linalg.norm(direction)
        shading += strength * np.clip(n_camera @ towards, 0.0, None)
    return np.clip(np.sqrt(shading)[:, None] * CLAY, 0.0, 1.0)  # the root stands for sRGB's encoding


def light_sphere(
    shading_of_normals: Callable[[Float[np.ndarray, "points 3"]], Float[np.ndarray, "points 3"]],
    size: int,
    reflectance: float = 0.7,
    supersample: int = 3,
) -> Float32[np.ndarray, "size size 4"]:
    """A grey ball under a light, seen from the front, RGB and alpha in [0, 1]: white soon is too bright.

    `shading_of_normals` gives the RGB radiosity of a white surface with unit normals in camera space (x
    right, y down, z forward, so that −z faces us).
    """
    fine = size * supersample
    axis = (np.arange(fine) + 0.5) * 2.0 / fine - 1.0
    x, y = np.meshgrid(axis, axis)
    inside = x * x + y * y < 1.0
    normals = np.stack([x, y, -np.sqrt(np.clip(1.0 - x * x - y * y, 0.0, None))], -1)[inside]
    samples = np.zeros((fine, fine, 4))
    samples[inside] = np.concatenate(
        [np.clip(reflectance * shading_of_normals(normals), 0.0, 1.0), np.ones((len(normals), 1))], 1
    )
    summed = samples.reshape(size, supersample, size, supersample, 4).sum((1, 3))
    count = summed[..., 3:]
    colour = np.divide(summed[..., :3], count, where=count > 0, out=np.zeros((size, size, 3)))
    return np.concatenate([colour, count / supersample**2], -1).astype(np.float32)


def on_grey(rgba: Float[np.ndarray, "height width 4"], grey: float = BACKGROUND) -> Picture:
    """A picture with alpha, before an even grey in [0, 1]."""
    alpha = rgba[..., 3:]
    return np.round(255.0 * (rgba[..., :3] * alpha + grey * (1.0 - alpha))).astype(np.uint8)


def contact_sheet(
    rows: Sequence[Sequence[Picture]],
    column_labels: Sequence[str] = (),
    row_labels: Sequence[Sequence[str]] = (),
    tile: int = 240,
    gap: int = 6,
) -> Picture:
    """Pictures in rows and columns, each fitted into a square of `tile` pixels, on white.

    The labels of a row stand over it and share its width evenly.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("a contact sheet shows at least one picture, got none")
    width = columns * tile + (columns + 1) * gap
    strips = [_titles(column_labels, width, gap)] if column_labels else []
    for i, row in enumerate(rows):
        if row_labels:
            strips.append(_titles(row_labels[i], width, gap))
        strip = np.full((tile + gap, width, 3), 255, dtype=np.uint8)
        for k, picture in enumerate(row):
            strip[:tile, gap + k * (tile + gap) :][:, :tile] = fitted(picture, tile, tile)
        strips.append(strip)
    return np.concatenate([np.full((gap, width, 3), 255, dtype=np.uint8), *strips])


def fitted(picture: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> Picture:
    """The whole picture, scaled to fit and centred on white."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    new_height, new_width = (max(1, round(side * scale)) for side in picture.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(picture, (new_width, new_height), interpolation=how) if scale != 1 else picture
    top, left = (height - new_height) // 2, (width - new_width) // 2
    result = np.full((height, width, 3), 255, dtype=np.uint8)
    result[top : top + new_height, left : left + new_width] = scaled
    return result


def label(text: str, width: int, height: int = LABEL_HEIGHT) -> Picture:
    """A white strip with the text in its middle, shortened where it is too long."""
    font = _font(max(6, round(height * 0.62)))
    while len(text) > 1 and font.getlength(text) > width - 4:
        text = f"{text[:-2]}…"
    strip = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(strip).text((width / 2, height / 2), text, fill=(40, 40, 40), font=font, anchor="mm")
    return np.array(strip)


@torch.no_grad()
def sheet_of_faces(
    images: Float[Tensor, "batch 3 size size"],
    face: Face,
    model: FaceModel,
    gamma: Float[Tensor, "batch 9 3"] | None = None,
    labels: Sequence[str] = (),
    across: int = 2,
    tile: int = 240,
) -> Picture:
    """A sheet that shows for each crop the photo, the face over it, its shape, its reflectance and its light.

    The light falls on the face, or on a ball where the coefficients `gamma` are given.
    """
    triangles = model.triangles.cpu().numpy()
    faces = [
        _tiles(images[i], face, i, triangles, None if gamma is None else gamma[i]) for i in range(len(images))
    ]
    across = min(across, len(faces))
    titles = ("photo", "overlay", "shape", "reflectance", "light") * across
    rows = [sum(faces[i : i + across], []) for i in range(0, len(faces), across)]
    names = [labels[i : i + across] for i in range(0, len(faces), across)] if labels else ()
    return contact_sheet(rows, titles, names, tile)


def save_picture(path: str | Path, picture: Picture) -> Path:
    """Write a PNG or JPEG, by the path's ending; the file appears only when it is complete."""
    path = Path(path)
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if path.suffix.lower() not in formats:
        raise ValueError(
            f"a picture is written as {', '.join(formats)}; got {path.name!r}: change its ending"
        )
    note = PngImagePlugin.PngInfo()
    note.add_text("Software", "mofaface")
    # The lowest compression takes a quarter of the time of the usual one, for a quarter more bytes.
    options = {"pnginfo": note, "compress_level": 1, "quality": 92}
    with written_whole(path) as temporary:
        Image.fromarray(picture).save(temporary, formats[path.suffix.lower()], **options)
    return path


def _tiles(
    image: Tensor, face: Face, i: int, triangles: np.ndarray, gamma: Tensor | None
) -> list[UInt8[np.ndarray, "size size 3"]]:
    photo = np.round(255 * image.clamp(0, 1).permute(1, 2, 0).cpu().numpy()).astype(np.uint8)
    size = photo.shape[0]
    place = (face.uv_crop[i].cpu().numpy(), face.x_camera[i, :, 2].cpu().numpy(), triangles)
    skin, shading = (part[i].clamp(0, 1).cpu().numpy() for part in (face.reflectance, face.shading))
    shape = clay_colours(face.n_camera[i].double().cpu().numpy())
    return [
        photo,
        overlay(photo, *place, face.colour[i].clamp(0, 1).cpu().numpy()),
        surface(*place, shape, size, size),
        surface(*place, skin, size, size),
        surface(*place, shading, size, size) if gamma is None else _ball(gamma, size),
    ]


def _ball(gamma: Float[Tensor, "9 3"], size: int) -> Picture:
    def shading(normals: np.ndarray) -> np.ndarray:
        return illuminate(torch.from_numpy(normals)[None], gamma.double().cpu()[None])[0].numpy()

    return on_grey(light_sphere(shading, size))


def _samples(height: int, width: int) -> int:
    """4, 3 or 2 samples along a pixel's side: fewer for a large face, as the time goes with their number."""
    return next((side for side in (4, 3) if height * width * side**2 <= MOST_SAMPLES), 2)


def _titles(texts: Sequence[str], width: int, gap: int) -> Picture:
    """A strip of labels over columns that share the width between two half gaps evenly."""
    strip = np.full((LABEL_HEIGHT, width, 3), 255, dtype=np.uint8)
    ends = np.linspace(gap / 2, width - gap / 2, len(texts) + 1).round().astype(int).tolist()
    for text, (start, end) in zip(texts, pairwise(ends), strict=True):
        strip[:, start:end] = label(text, end - start)
    return strip


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
