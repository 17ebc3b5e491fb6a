"""Trained weights: one safetensors file that says which network it is, for which face model, and how it came.

Format "mofaface-weights", version 1: tensors are the encoder's state (floating-point ones in float16 when
shipped), the metadata holds `encoder` (its configuration), `face_model` (name, version, digest), `camera`,
`training` and, unless 0, `refine`, the steps that shall follow the network, as JSON.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mofaface.autoencoder import Autoencoder
from mofaface.camera import Camera
from mofaface.decoder import Decoder
from mofaface.encoders import CodeGains, EncoderConfig, WeightsError, build_encoder
from mofaface.face_model import FaceModel
from mofaface.files import written_whole

FORMAT = "mofaface-weights"
FORMAT_VERSION = "1"
ASSETS = Path(__file__).parent / "assets"
DEFAULT_WEIGHTS = "fast"
T = TypeVar("T")


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata; the file appears under its name only when it is complete."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in metadata.items()}
    try:
        with written_whole(path) as temporary:
            save_file(plain, temporary, texts)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path} could not be written ({error}); check its folder and the space there"
        ) from error


def read_tensors(path: Path, wanted: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file of the format `wanted`; raises WeightsError for anything else."""
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or not a safetensors file ({error}); copy it again") from error
    if metadata.get("format") != wanted:
        raise WeightsError(f"{path} holds '{metadata.get('format', 'something else')}', expected '{wanted}'")
    if metadata.get("format_version") != FORMAT_VERSION:
        version = metadata.get("format_version")
        raise WeightsError(f"{path} has version {version}, this mofaface reads {FORMAT_VERSION}")
    return tensors, metadata


def model_identity(model: FaceModel) -> dict[str, str]:
    """What ties weights to a face model."""
    return {"name": model.name, "version": model.version, "digest": model.digest}


def write_weights(
    path: Path,
    encoder_state: dict[str, Tensor],
    config: EncoderConfig,
    decoder: Decoder,
    training: dict[str, Any],
    dtype: torch.dtype = torch.float16,
    refine: int = 0,
) -> None:
    """Write an encoder's state as a weights file; `refine` is the number of steps that shall follow it."""
    tensors = {name: _stored(t, dtype) for name, t in encoder_state.items()}
    metadata: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "encoder": asdict(config),
        "face_model": model_identity(decoder.model),
        "camera": asdict(decoder.camera),
        "training": training,
    }
    if refine:
        metadata["refine"] = refine
    write_tensors(path, tensors, metadata)


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor as it is written: one with values too large for float16 keeps its own type."""
    if not tensor.is_floating_point():
        return tensor
    small = tensor.to(dtype)
    return small if torch.isfinite(small).all() or not torch.isfinite(tensor).all() else tensor


def find_weights(name_or_path: str | Path) -> Path:
    """The file of a shipped name such as "fast", or the path itself."""
    shipped = ASSETS / f"{name_or_path}.safetensors"
    if Path(name_or_path).suffix or not shipped.is_file():
        path = Path(name_or_path)
        if not path.is_file():
            shipped_files = [
                p for p in sorted(ASSETS.glob("*.safetensors")) if not p.stem.startswith("open_face")
            ]
            names = ", ".join(p.stem for p in shipped_files)
            raise WeightsError(
                f"weights are one of the shipped names ({names}) or a file; '{name_or_path}' is neither"
            )
        return path
    return shipped


def read_autoencoder(path: Path, model: FaceModel) -> Autoencoder:
    """The trained autoencoder of a weights file, ready to use; `model` is the one it was trained with."""
    tensors, metadata = read_tensors(path, FORMAT)
    _check_model(path, _part(path, metadata, "face_model", lambda plain: _Identity(**plain)), model)
    config = _part(path, metadata, "encoder", _encoder_config)
    camera = _part(path, metadata, "camera", lambda plain: Camera(**plain))
    refine = _part(path, metadata, "refine", _steps) if "refine" in metadata else 0
    try:
        encoder = build_encoder(config, model.layout)
        encoder.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()})
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error)[:300]
        raise WeightsError(f"{path} does not fit the encoder that it names: {reason}") from error
    return Autoencoder(encoder, Decoder(model, camera), refine).eval().requires_grad_(False)


@dataclass(frozen=True)
class _Identity:
    name: str
    version: str
    digest: str


def _check_model(path: Path, trained: _Identity, model: FaceModel) -> None:
    if trained.digest != model.digest:
        raise WeightsError(
            f"{path} was trained for face model '{trained.name}' version {trained.version} (digest "
            f"{trained.digest[:8]}), got '{model.name}' version {model.version} ({model.digest[:8]}); "
            "give the model it was trained with, or train new weights"
        )


def _steps(plain: Any) -> int:
    if type(plain) is not int or plain < 0:
        raise ValueError(f"refine is {plain!r}")
    return plain


def _encoder_config(plain: dict[str, Any]) -> EncoderConfig:
    return EncoderConfig(**{**plain, "gains": CodeGains(**plain["gains"])})


def _part(path: Path, metadata: dict[str, str], name: str, read: Callable[[Any], T]) -> T:
    """One part of the metadata; raises WeightsError where it is missing or not what this version writes."""
    try:
        return read(json.loads(metadata[name]))
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{path} does not say which {name} it needs in a way that this mofaface knows ({error}); "
            "copy it again, or update mofaface"
        ) from error
