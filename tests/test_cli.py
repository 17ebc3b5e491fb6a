"""The command line: what every command prints, writes and returns."""

import json
import sys

import cv2
import numpy as np
import pytest
from face_photos import EXAMPLES, needs_examples
from PIL import Image

from mofaface import cli, commands_models
from mofaface.cli import main, missing_package, parse
from mofaface.commands_photos import parse_outputs

PHOTO = str(EXAMPLES / "congress_C001072.jpg")


@pytest.fixture
def run(capsys):
    """Runs a command line; returns exit code, output and error output."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


@pytest.fixture
def network(weights_path, model_path):
    return ("--weights", weights_path, "--model", model_path)


@needs_examples
def test_reconstruct_writes_a_folder_per_face_and_a_report(run, network, tmp_path):
    code, out, _ = run("reconstruct", PHOTO, "--out", tmp_path / "out", *network)
    assert code == 0 and "1 of 1 photos reconstructed" in out
    folder = tmp_path / "out" / "congress_C001072"
    assert sorted(file.name for file in folder.iterdir()) == ["code.json", "face.glb", "overlay.png"]
    with Image.open(folder / "overlay.png") as overlay, Image.open(PHOTO) as photo:
        assert overlay.size == photo.size
    (entry,) = json.loads((tmp_path / "out" / "report.json").read_text())["photos"]
    assert entry["status"] == "ok" and entry["faces"] == ["congress_C001072"] and entry["photo"] == PHOTO


@needs_examples
def test_every_face_of_a_photo_gets_a_folder(run, network, tmp_path):
    picture = cv2.imread(PHOTO)
    both = np.full((len(picture), 2 * picture.shape[1], 3), 128, np.uint8)
    both[:, : picture.shape[1]] = picture
    small = cv2.resize(picture, None, fx=0.7, fy=0.7)
    both[: len(small), picture.shape[1] : picture.shape[1] + small.shape[1]] = small
    cv2.imwrite(str(tmp_path / "both.png"), both)
    code, _, _ = run(
        "reconstruct", tmp_path / "both.png", "--faces", "all", "--save", "json", "--out", tmp_path, *network
    )
    assert code == 0
    first, second = (json.loads((tmp_path / name / "code.json").read_text()) for name in ("both", "both_2"))
    width = [np.ptp(np.array(face["landmarks_68"])[:, 0]) for face in (first, second)]
    assert width[0] > 1.2 * width[1]
    code, _, _ = run(
        "reconstruct", tmp_path / "both.png", "--save", "json", "--out", tmp_path / "one", *network
    )
    assert code == 0 and sorted(p.name for p in (tmp_path / "one").iterdir()) == ["both", "report.json"]


@needs_examples
def test_exit_code_is_two_for_some_and_one_for_none(run, network, tmp_path):
    code, _, err = run("reconstruct", PHOTO, "gone.jpg", "--save", "json", "--out", tmp_path / "a", *network)
    assert code == 2 and "unreadable: gone.jpg: gone.jpg does not exist" in err
    code, out, _ = run("reconstruct", "gone.jpg", "--out", tmp_path / "b", *network)
    assert code == 1 and "0 of 1" in out
    assert (tmp_path / "b" / "report.json").is_file()


def test_path_with_brackets_is_shown_as_it_is(run, network, tmp_path):
    name = tmp_path / "[red]holi[/]day[b].jpg"
    code, _, err = run("reconstruct", name, "--out", tmp_path / "out", *network)
    assert code == 1 and str(name) in err and len(err.strip().splitlines()) == 1
    code, _, err = run("model", "info", name)
    assert code == 1 and str(name) in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["reconstruct"],
        ["reconstruct", "a.jpg", "--faces", "some"],
        ["nonsense"],
        ["train", "--nonsense", "1"],
        ["train", "--batch", "many"],
        [],
    ],
)
def test_command_line_that_cannot_be_understood_is_exit_one(run, arguments):
    code, _, err = run(*arguments)
    assert code == 1 and err.strip()


@pytest.mark.parametrize(
    "command",
    [[], *([name] for name in cli.COMMANDS), ["model", "sample"], ["model", "build"], ["corpus", "build"]],
)
def test_every_command_has_help(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0 and "usage: mofaface" in out


def test_unknown_output_is_a_sentence(run, network, tmp_path):
    code, _, err = run("reconstruct", "a.jpg", "--save", "glb,stl", "--out", tmp_path, *network)
    assert (
        code == 1 and "--save takes overlay, glb, obj, ply, json, separated by commas; got 'glb,stl'" in err
    )
    assert not (tmp_path / "report.json").exists()


def test_outputs_are_a_list_with_commas():
    assert parse_outputs("obj, json") == ("obj", "json")
    for text in ("", ",", "gltf"):
        with pytest.raises(ValueError, match="separated by commas"):
            parse_outputs(text)


def test_weights_and_models_that_cannot_be_used_are_sentences(
    run, network, tmp_path, model_path, weights_path
):
    code, _, err = run("reconstruct", "a.jpg", "--weights", "best", "--model", model_path)
    assert code == 1 and "'best' is neither" in err
    code, _, err = run("reconstruct", "a.jpg", "--weights", model_path, "--model", model_path)
    assert code == 1 and "expected 'mofaface-weights'" in err
    code, _, err = run("reconstruct", "a.jpg", "--weights", weights_path, "--model", tmp_path / "gone")
    assert code == 1 and "there is none at" in err
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(model_path.read_bytes()[:-9])
    code, _, err = run("reconstruct", "a.jpg", "--weights", weights_path, "--model", damaged)
    assert code == 1 and "is not a readable face model" in err


def test_model_info_says_what_a_model_holds(run, model_path):
    code, out, _ = run("model", "info", model_path)
    assert code == 0 and "little 0" in out and "licence: CC0-1.0" in out and "units: mm" in out
    assert "289 vertices, 512 triangles" in out and "5/" not in out.split("code:")[0]


def test_model_sample_writes_a_sheet(run, model_path, tmp_path):
    code, out, _ = run("model", "sample", model_path, "--n", "2", "--out", tmp_path / "sheet.png")
    assert code == 0 and (tmp_path / "sheet.png").is_file() and "sheet.png" in out


def test_corpus_info_describes_the_corpus(run, corpus_path, tmp_path):
    code, out, _ = run("corpus", "info", corpus_path)
    assert code == 0 and "train: 20 crops" in out
    code, _, err = run("corpus", "info", tmp_path)
    assert code == 1 and "corpus.json" in err


@needs_examples
def test_corpus_build_reads_photos(run, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes((EXAMPLES / "congress_C001072.jpg").read_bytes())
    (photos / "b.jpg").write_text("no picture")
    code, built, _ = run("corpus", "build", "--images", photos, "--out", tmp_path / "corpus")
    assert code == 0
    code, out, _ = run("corpus", "info", tmp_path / "corpus")
    assert code == 0 and "1 crops" in out and "left out, unreadable: 1" in out
    assert built.endswith(out)


def test_train_then_resume_through_the_command_line(run, corpus_path, model_path, tmp_path, monkeypatch):
    monkeypatch.setattr("mofaface.training.monitor._tensorboard", lambda folder: None)
    out = tmp_path / "run [bold]"
    tiny = "--encoder.input-size 32 --batch 2 --threads 1 --log-every 1 --validate-photos 2".split()
    tiny += "--encoder.frozen-blocks 0 --encoder.no-freeze-norm".split()
    code, _, err = run(
        "train", "--corpus", corpus_path, "--model", model_path, "--out", out, "--iterations", 2, *tiny
    )
    assert code == 0 and f"wrote {out}/weights.safetensors" in err
    code, _, _ = run("train", "--resume", out, "--iterations", 3)
    assert code == 0
    seen = [json.loads(line)["iteration"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert sorted(set(seen)) == [0, 1, 2, 3]
    code, _, err = run("train", "--resume", tmp_path / "nothing")
    assert code == 1 and "is neither" in err


def test_evaluate_prints_the_figures_beside_the_papers(run, corpus_path, network, tmp_path):
    code, out, _ = run(
        "evaluate", "--corpus", corpus_path, "--untrained", "--out", tmp_path / "f.json", *network
    )
    assert code == 0 and "5.3 / 4.9 unsupervised" in out and "photometric, RGB distance" in out
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["landmark_px"]["count"] == 4 and figures["landmark_px"]["mean"] > 0
    assert figures["untrained"] and figures["plausibility"]["alpha"]["rms"]["mean"] == 0
    assert figures["model"]["name"] == "little"


def test_evaluate_writes_a_report_or_says_which_package_it_lacks(
    run, corpus_path, network, tmp_path, monkeypatch
):
    report = tmp_path / "report"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        code, _, err = run("evaluate", "--corpus", corpus_path, "--report", report, *network)
        assert code == 1 and err == "error: this command needs matplotlib: pip install 'mofaface[evaluate]'\n"
        assert not report.exists()
    code, _, err = run("evaluate", "--corpus", corpus_path, "--report", report, *network)
    assert code == 0 and f"wrote {report}" in err
    names = {path.name for path in report.iterdir()}
    assert {
        "figures.json",
        "tables.txt",
        "coefficients.png",
        "cases_landmark_px.png",
        "mesh_photometric.png",
    } <= names


@needs_examples
def test_evaluate_on_manual_points(run, network, tmp_path):
    header = "file," + ",".join(f"{axis}{i}" for i in range(5) for axis in "xy")
    rows = [
        f"{name}.jpg,100,100,150,100,125,130,105,160,145,160" for name in ("congress_C001072", "elsewhere")
    ]
    (tmp_path / "points.csv").write_text("\n".join([header, *rows]) + "\n")
    found = ("--points", tmp_path / "points.csv", "--images")
    code, out, _ = run("evaluate", *found, EXAMPLES, "--out", tmp_path / "f.json", *network)
    result = json.loads((tmp_path / "f.json").read_text())
    assert (
        code == 0
        and "five points over eye distance" in out
        and result["five_points"]["count"] == 1
        and result["no_face"] == 0
    )
    (tmp_path / "empty").mkdir()
    code, _, err = run("evaluate", *found, tmp_path / "empty", *network)
    assert code == 1 and "none of the 0 annotated photos" in err


def test_evaluate_without_data_says_what_it_needs(run, corpus_path, tmp_path):
    for arguments in (
        [],
        ["--points", "p.csv"],
        ["--corpus", corpus_path, "--images", tmp_path],
        ["--corpus", corpus_path, "--clip", tmp_path],
        ["--scan", "a.obj"],
    ):
        code, _, err = run("evaluate", *arguments)
        assert code == 1 and "evaluate needs --corpus" in err


@needs_examples
def test_interrupt_says_what_is_complete_and_keeps_it(run, network, tmp_path, monkeypatch):
    from mofaface.reconstruct import Reconstructor

    from_crops = Reconstructor.from_crops

    def interrupted(self, found):
        if any("second" in one.photo.name for one in found):
            raise KeyboardInterrupt
        return from_crops(self, found)

    monkeypatch.setattr(Reconstructor, "from_crops", interrupted)
    second = tmp_path / "second.jpg"
    second.write_bytes((EXAMPLES / "ai_man_1.jpg").read_bytes())
    photos = [PHOTO] * 30 + [second, PHOTO]
    code, _, err = run(
        "reconstruct", *photos, "--save", "json", "--workers", 1, "--out", tmp_path / "out", *network
    )
    entries = json.loads((tmp_path / "out" / "report.json").read_text())["photos"]
    assert 10 < len(entries) <= 30 and all(entry["status"] == "ok" for entry in entries)
    count = f"interrupted after {len(entries)} of 32 photos; {len(entries)} are complete"
    assert code == 130 and count in " ".join(err.split())
    folders = [folder for entry in entries for folder in entry["faces"]]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([*folders, "report.json"])


def test_export_writes_two_files_and_says_so(run, network, tmp_path):
    pytest.importorskip("onnxscript")
    code, out, err = run("export", "--onnx", tmp_path / "face.onnx", *network)
    assert code == 0 and "face.onnx" in out and "face_decoder.onnx" in out and not err.strip()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["face.onnx", "face_decoder.onnx"]


@needs_examples
@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_an_engine_that_is_not_installed_is_a_sentence(run, network, tmp_path, monkeypatch, package):
    monkeypatch.setattr("mofaface.engines.PACKAGES", (package,))
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = run("reconstruct", PHOTO, "--engine", "onnxruntime", "--out", tmp_path / "out", *network)
    assert code == 1 and f"this command needs {package}: pip install 'mofaface[export]'" in err
    code, out, _ = run("reconstruct", PHOTO, "--engine", "torch", "--out", tmp_path / "out", *network)
    assert code == 0


def test_interrupt_elsewhere_is_a_sentence(run, monkeypatch, model_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands_models, "load_face_model", interrupted)
    code, _, err = run("model", "info", model_path)
    assert code == 130 and "interrupted" in err


def test_report_on_a_full_disk_is_a_sentence(run, network, tmp_path):
    (tmp_path / ".report.json.partial").symlink_to("/dev/full")
    code, _, err = run("reconstruct", "gone.jpg", "--out", tmp_path, *network)
    assert code == 1 and "No space left on device" in err
    assert "report.json could not be written" in err and "check its folder and the space there" in err
    assert not list(tmp_path.iterdir())


def test_figures_that_cannot_be_written_are_a_sentence(run, corpus_path, network, tmp_path):
    figures = tmp_path / "nowhere" / "f.json"
    code, _, err = run("evaluate", "--corpus", corpus_path, "--untrained", "--out", figures, *network)
    assert code == 1 and f"error: {figures} could not be written" in err and "check its folder" in err


def test_package_that_is_missing_is_a_sentence_with_its_extra(run, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.startswith("mofaface.face_models.open_model")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("scipy.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    code, _, err = run("model", "build", "--source", tmp_path)
    assert code == 1
    assert err == "error: this command needs scipy: pip install 'mofaface[build-model]'\n"


def test_import_that_fails_otherwise_says_why():
    assert "(libGL is gone); install mofaface again" in missing_package(ImportError("libGL is gone"))


@needs_examples
def test_folder_that_is_not_ours_is_kept_and_said(run, network, tmp_path):
    own = tmp_path / "congress_C001072" / "holiday.txt"
    own.parent.mkdir()
    own.write_text("mine")
    code, _, err = run("reconstruct", PHOTO, "--out", tmp_path, *network)
    assert code == 1 and f"{own.parent} holds other files; give another --out" in err
    assert own.read_text() == "mine"


@pytest.mark.parametrize("command", ["reconstruct", "fit"])
def test_batch_without_photos_is_refused(run, tmp_path, command):
    code, _, err = run(command, "--out", tmp_path / "out")
    assert code == 1 and "give at least one photo" in err and not (tmp_path / "out").exists()


def test_training_options_are_left_to_training():
    assert parse(["train", "--recipe", "paper"]).arguments == ("--recipe", "paper")
