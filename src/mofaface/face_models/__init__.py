"""Face models: where they come from and how they are kept."""

from pathlib import Path

from mofaface.face_model import FaceModel
from mofaface.face_models.container import read_face_model

OPEN_MODEL = Path(__file__).parents[1] / "assets" / "open_face_v1.safetensors"


def load_face_model(name_or_path: str | Path = "open") -> FaceModel:
    """The face model of a name ("open": the one that ships) or of a container file."""
    return read_face_model(find_face_model(name_or_path))


def find_face_model(name_or_path: str | Path) -> Path:
    """The container file of a name, or the path itself."""
    return OPEN_MODEL if name_or_path == "open" else Path(name_or_path)
