"""Trained weights: one safetensors file that says which network it is, for which face model, and how it came about.

Format "mofaface-weights", version 1: tensors are the encoder's state (floating-point ones in float16 when shipped), the
metadata holds `encoder` (its configuration), `face_model` (name, version, digest), `camera` and `training` as JSON.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mofaface.autoencoder import Autoencoder
from mofaface.camera import Camera
from mofaface.decoder import Decoder
from mofaface.encoders import CodeGains, Encoder, EncoderConfig, WeightsError, build_encoder
from mofaface.face_model import FaceModel

FORMAT = "mofaface-weights"
FORMAT_VERSION = "1"
ASSETS = Path(__file__).parent / "assets"
DEFAULT_WEIGHTS = "fast"


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata; the file appears under its name only when it is complete."""
    temporary = Path(f"{path}.partial")
    try:
        save_file(
            {name: t.detach().cpu().contiguous() for name, t in tensors.items()},
            temporary,
            {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()},
        )
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise OSError(f"{path} could not be written ({error}); free some space and run again") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path, wanted: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file of the format `wanted`; raises WeightsError when it is something else."""
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
        raise WeightsError(f"{path} has version {metadata.get('format_version')}, this mofaface reads {FORMAT_VERSION}")
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
) -> None:
    """Write an encoder's state as a weights file."""
    tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in encoder_state.items()}
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "encoder": asdict(config),
        "face_model": model_identity(decoder.model),
        "camera": asdict(decoder.camera),
        "training": training,
    }
    write_tensors(path, tensors, metadata)


def find_weights(name_or_path: str | Path) -> Path:
    """The file of a shipped name such as "fast", or the path itself."""
    shipped = ASSETS / f"{name_or_path}.safetensors"
    if Path(name_or_path).suffix or not shipped.is_file():
        path = Path(name_or_path)
        if not path.is_file():
            names = ", ".join(p.stem for p in sorted(ASSETS.glob("*.safetensors")) if not p.stem.startswith("open_face"))
            raise WeightsError(f"weights are one of the shipped names ({names}) or a file; '{name_or_path}' is neither")
        return path
    return shipped


def read_autoencoder(path: Path, model: FaceModel) -> Autoencoder:
    """The trained autoencoder of a weights file, ready to use; `model` must be the one it was trained with."""
    tensors, metadata = read_tensors(path, FORMAT)
    trained = json.loads(metadata["face_model"])
    if trained["digest"] != model.digest:
        raise WeightsError(
            f"{path} was trained for face model '{trained['name']}' version {trained['version']} (digest "
            f"{trained['digest'][:8]}), got '{model.name}' version {model.version} ({model.digest[:8]}); "
            "give the model it was trained with, or train new weights"
        )
    encoder = _empty_encoder(json.loads(metadata["encoder"]), model)
    try:
        encoder.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()})
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit the encoder that it names: {str(error)[:300]}") from error
    camera = Camera(**json.loads(metadata["camera"]))
    return Autoencoder(encoder, Decoder(model, camera)).eval().requires_grad_(False)


def _empty_encoder(plain: dict[str, Any], model: FaceModel) -> Encoder:
    try:
        config = EncoderConfig(**{**plain, "gains": CodeGains(**plain["gains"])})
    except (TypeError, KeyError) as error:
        raise WeightsError(f"the weights name an encoder that this mofaface does not know: {error}") from error
    return build_encoder(config, model.layout)
