"""Imports go only downwards: maths ← nouns ← halves ← joined ← uses ← faces of the tool."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src"
LAYERS = (
    ("rotation", "camera", "mesh", "harmonics", "sampling", "rasterizer", "rasterizer_plain", "similarity", "files",
     "engines", "pool"),
    ("code", "photo", "crop", "face_model", "landmarks", "face_models", "face_models.container"),
    ("encoders", "decoder", "geometry", "detection", "facemesh", "yunet"),
    ("autoencoder", "jacobian", "losses", "metrics", "weights", "kernels"),
    ("corpus", "synthetic", "baselines", "training", "train", "fit", "fit_energy", "average_reflectance", "evaluation",
     "reconstruct", "reconstruction", "refine", "report", "pipeline", "bulk", "fit_photo", "sample", "export",
     "onnx_export", "pictures", "face_models.open_model", "face_models.importers",
     "face_models.surface", "face_models.registration", "face_models.gaussian_process",
     "face_models.deformation_transfer", "face_models.blendshape_sets", "face_models.build_expression",
     "face_models.face_units", "skin_tone", "model_report", "bench",
     "bench_uses", "bench_inference", "bench_gpu", "protocol", "facemesh_markup"),
    ("terminal", "commands_bench", "commands_photos", "commands_models", "commands_import", "commands_expression",
     "commands_corpus", "commands_evaluate", "commands_networks", "commands_synth", "commands_protocol",
     "commands_export", "cli",
     "studio", "", "__main__"),
)  # fmt: skip
LAYER = {name: layer for layer, names in enumerate(LAYERS) for name in names}
# Only these folders take in new modules without an entry of their own above.
FOLDERS = (
    "encoders",
    "kernels",
    "corpus",
    "evaluation",
    "synthetic",
    "baselines",
    "training",
    "face_models.open_model",
    "face_models.importers",
    "studio",
)


def module_name(path: Path) -> str:
    """ "face_models.container" for src/mofaface/face_models/container.py; "" for the package itself."""
    parts = path.relative_to(ROOT / "mofaface").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "mofaface").rglob("*.py"))}


def layer_of(module: str) -> int:
    """The layer of a module; KeyError for one that has no place in the table."""
    if module in LAYER:
        return LAYER[module]
    folder = next((f for f in FOLDERS if module.startswith(f"{f}.")), None)
    if folder is None:
        raise KeyError(f"module mofaface.{module} has no layer: give it one in tests/test_layers.py")
    return LAYER[folder]


def imported_modules(source: str, module: str) -> set[str]:
    """Modules of the package that the source imports, wherever in the file the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"mofaface.{module} imports relatively; write the whole name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "mofaface"
        ):
            found.add(f"mofaface.{node.attr}")
    # The bare package and its version are no module: whatever else of it is used has been found by name.
    found -= {"mofaface", "mofaface.__version__"}
    return {known(name) for name in found if name.startswith("mofaface.")}


def known(name: str) -> str:
    """The longest part of a dotted name that is a module of the package."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in MODULES.keys() | LAYER.keys():
        parts.pop()
    return ".".join(parts)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_its_own_layer_and_below(module):
    layer = layer_of(module)
    for other in imported_modules(MODULES[module].read_text(encoding="utf-8"), module) - {module}:
        assert layer_of(other) <= layer, f"mofaface.{module} (layer {layer}) imports mofaface.{other}"


def test_no_two_modules_import_each_other():
    # A package's __init__ may gather from its own modules; those may not need it in turn.
    graph = {m: imported_modules(p.read_text(encoding="utf-8"), m) - {m} for m, p in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"imports in a circle: {' → '.join((*path, module))}"
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_an_import_upwards_and_an_unknown_module_are_noticed():
    inner = "def f():\n    from mofaface.train import x\n"
    assert imported_modules(inner, "rotation") == {"train"}
    assert imported_modules("from mofaface import code, harmonics", "fit") == {"code", "harmonics"}
    assert imported_modules("import mofaface\nprint(mofaface.__version__)", "train") == set()
    assert imported_modules("import mofaface\nmofaface.load()", "train") == {""}
    with pytest.raises(KeyError, match="has no layer"):
        layer_of("mystery")
