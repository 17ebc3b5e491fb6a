"""Foreign face models, read: each format is one function from the model's files to what they say in our units.

The readers are imported when they are asked for, so that no one needs the libraries of another format.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from mofaface.face_models.importers.raw import ModelFileError, RawModel

Reader = Callable[[list[Path]], RawModel]

FORMATS = {
    "bfm2009": "basel:read_bfm2009",
    "bfm2017": "basel:read_bfm_h5",
    "bfm2019": "basel:read_bfm_h5",
    "bfm2009-exp": "deep3d:read_bfm2009_exp",
    "deep3d": "deep3d:read_deep3d",
    "flame": "flame:read_flame",
    "3ddfa_v2": "threeddfa:read_3ddfa_v2",
    "eos": "eos:read_eos",
    "ict": "ict:read_ict",
    "lyhm": "lyhm:read_lyhm",
    "linear": "linear:read_linear",
}
"""Format → module of this package and its reader."""


def reader(format: str) -> Reader:
    """The function that reads files of a format."""
    if format not in FORMATS:
        raise ModelFileError(f"the format is one of {', '.join(FORMATS)}; '{format}' is none of them")
    module, function = FORMATS[format].split(":")
    return getattr(import_module(f"{__name__}.{module}"), function)


def read_model(format: str, files: list[Path]) -> RawModel:
    """The model in one or several files, or in a folder, on the file's own mesh and in our units."""
    read = reader(format)
    missing = [str(path) for path in files if not path.exists()]
    if missing or not files:
        raise ModelFileError(
            f"a {format} model is read from its files, and there is none at {', '.join(missing) or 'no name'}; "
            "give their paths"
        )
    return read(files)
