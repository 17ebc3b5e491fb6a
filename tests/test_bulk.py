"""Photos in several processes: the folders, numbers and report of the threads of one, whatever happens to some photos."""

import json
import shutil
from pathlib import Path

import pytest
from face_photos import EXAMPLES, needs_examples
from pool_work import needs_ray
from test_report import read_report

from mofaface.bulk import Network, _lost, process_in_pool
from mofaface.cli import main
from mofaface.encoders import WeightsError
from mofaface.pipeline import process_in_stages
from mofaface.reconstruct import load

pytestmark = needs_examples
# They depend on how many photos went through the network together, in their last digits.
SHARED = ("photometric_error", "quality")


@pytest.fixture
def network(weights_path, model_path) -> Network:
    return Network(str(weights_path), str(model_path))


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> list[str]:
    """Three photos with faces, two that share a name, one that is cut off, one that is gone."""
    folder = tmp_path_factory.mktemp("album")
    names = [path.name for path in sorted(EXAMPLES.glob("*.jpg"))[:3]]
    for name in names:
        shutil.copy(EXAMPLES / name, folder / name)
    (folder / "sub").mkdir()
    shutil.copy(EXAMPLES / names[0], folder / "sub" / names[0])
    (folder / "broken.jpg").write_bytes((EXAMPLES / names[0]).read_bytes()[:4000])
    given = (names[0], "broken.jpg", names[1], "gone.jpg", f"sub/{names[0]}", names[2])
    return [str(folder / name) for name in given]


def plain_report(out: Path) -> list[dict]:
    return [{k: v for k, v in entry.items() if k not in ("seconds", *SHARED)} for entry in read_report(out)]


def assert_same_results(a: Path, b: Path) -> None:
    assert plain_report(a) == plain_report(b)
    files = sorted(path.relative_to(a) for path in a.glob("*/code.json"))
    assert files == sorted(path.relative_to(b) for path in b.glob("*/code.json")) and len(files) == 4
    for file in files:
        one, other = (json.loads((out / file).read_text()) for out in (a, b))
        for name in SHARED:
            assert one.pop(name) == pytest.approx(other.pop(name), abs=1e-6)
        assert one == other


@pytest.fixture
def by_threads(album, network, tmp_path) -> Path:
    stages = load(network.weights, network.model, device="cpu").stages()
    list(process_in_stages(album, stages, tmp_path / "threads", ("json",), 2))
    return tmp_path / "threads"


def test_one_process_gives_the_results_of_threads(album, network, by_threads, tmp_path):
    with process_in_pool(album, network, tmp_path / "out", ("json",), "local", 1) as entries:
        statuses = [entry.status for entry in entries]
    assert statuses == ["ok", "unreadable", "ok", "unreadable", "ok", "ok"]
    assert_same_results(by_threads, tmp_path / "out")


@needs_ray
def test_a_ray_gives_the_results_of_threads(local_ray, album, network, by_threads, tmp_path, capsys):
    options = ("--weights", network.weights, "--model", network.model, "--save", "json", "--engine", "ray")
    with pytest.raises(SystemExit) as caught:
        main(["reconstruct", *album, *options, "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert caught.value.code == 2 and "4 of 6 photos reconstructed" in captured.out
    assert f"unreadable: {album[1]}" in captured.err
    assert_same_results(by_threads, tmp_path / "out")


@needs_ray
def test_a_ray_that_is_stopped_early_reports_what_is_there(local_ray, album, network, tmp_path):
    photos = [path for path in album if Path(path).name not in ("broken.jpg", "gone.jpg")] * 8
    with process_in_pool(photos, network, tmp_path / "out", ("json",), "ray", 2) as entries:
        next(entries)
        entries.close()
    report = read_report(tmp_path / "out")
    assert 1 < len(report) < 32 and [entry["photo"] for entry in report] == photos[: len(report)]
    folders = [folder for entry in report for folder in entry["faces"]]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([*folders, "report.json"])


def test_weights_that_are_not_there_are_missed_before_any_process_starts(model_path, tmp_path):
    network = Network(str(tmp_path / "gone.safetensors"), str(model_path))
    with pytest.raises(WeightsError), process_in_pool(["a.jpg"], network, tmp_path / "out", ("json",)):
        pass
    assert not (tmp_path / "out").exists()


def test_fewer_than_no_process_is_an_error(network, tmp_path):
    with pytest.raises(ValueError, match="by one process or more .* got -1"):
        with process_in_pool(["a.jpg"], network, tmp_path / "out", ("json",), workers=-1):
            pass


def test_a_photo_that_kills_its_process_is_a_failed_one():
    entry = _lost(("a.jpg", "a"), "the process died")
    assert (entry.photo, entry.status, entry.reason, entry.faces) == (
        "a.jpg",
        "failed",
        "the process died",
        [],
    )
