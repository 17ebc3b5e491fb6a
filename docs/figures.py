"""The pictures of the documentation: python docs/figures.py {faces,overlays,people} OUT.png [PHOTO...]

faces: photo, overlay, shape, reflectance and light, two photos a row. overlays: photo beside overlay, four photos a row.
people: random faces of the open model. The first two by the weights "accurate". Give photographs that may be shipped only.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import mofaface
from mofaface.crop import crops_to_tensor, cut_crop
from mofaface.photo import read_photo
from mofaface.pictures import contact_sheet, save_picture, sheet_of_faces
from mofaface.reconstruct import Reconstructor
from mofaface.sample import sample_sheet


def faces(reconstruct: Reconstructor, photos: Sequence[str]) -> np.ndarray:
    """A row per two photos with all that was read from them."""
    crops = []
    for path in photos:
        photo = read_photo(path)
        crops.append(cut_crop(photo, reconstruct.detect(photo).faces[0]))
    image = crops_to_tensor(crops)
    code, decoder = reconstruct.read(image), reconstruct.autoencoder.decoder
    return sheet_of_faces(image, decoder(code), decoder.model, code.gamma)


def overlays(reconstruct: Reconstructor, photos: Sequence[str], tile: int = 200) -> np.ndarray:
    """Each photo beside itself with the face drawn over it."""
    pairs = []
    for path in photos:
        face = reconstruct(path)[0]
        pairs.append([face.photo.pixels, face.overlay()])
    return contact_sheet([sum(pairs[i : i + 4], []) for i in range(0, len(pairs), 4)], tile=tile)


def main(kind: str, out: str, *photos: str) -> None:
    """Draw one picture."""
    if kind == "people":
        sample_sheet(mofaface.load_face_model(), 24, 0, Path(out))
        return
    draw = {"faces": faces, "overlays": overlays}[kind]
    save_picture(out, draw(mofaface.load("accurate"), photos))


if __name__ == "__main__":
    main(*sys.argv[1:])
