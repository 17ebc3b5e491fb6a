"""Results come in the order of their items from this process, from several, and from a Ray; no item stops the others."""

import builtins
import importlib
import logging
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading

import cv2
import pytest
import torch
from pool_work import deadly, deadly_at_first, exists, needs_ray, picky, square

from mofaface import pool
from mofaface.cli import missing_package
from mofaface.pool import InOrder, PoolError, available_cores, mapped


def lost(item: object, reason: str) -> str:
    return f"{item}: {reason}"


def under_way(limit: int, count: int) -> tuple[InOrder[int, int], list[list[int]]]:
    """Chunks of two items each, and those that were begun."""
    begun: list[list[int]] = []

    def begin(chunk: list[int]):
        begun.append(chunk)
        return lambda: chunk

    return InOrder(begin, range(count), limit, 2), begun


def test_a_bounded_number_of_chunks_is_under_way():
    results, begun = under_way(limit=3, count=20)
    for k, x in enumerate(results):
        assert x == k and len(begun) <= 3 + k // 2
    assert k == 19 and begun == [[x, x + 1] for x in range(0, 20, 2)]


def test_the_rest_is_what_was_begun():
    results, begun = under_way(limit=3, count=20)
    assert [next(results), *results.rest()] == list(range(6)) and len(begun) == 3
    assert list(results) == []


def test_an_interrupt_while_waiting_loses_nothing():
    interrupted = []

    def begin(chunk: list[int]):
        def wait() -> list[int]:
            if chunk[0] == 2 and not interrupted:
                interrupted.append(True)
                raise KeyboardInterrupt
            return chunk

        return wait

    results = InOrder(begin, range(20), 2, 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert results.rest() == [2, 3, 4, 5]


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_of_this_machine_keep_the_order(workers, tmp_path):
    with mapped("local", workers, square, range(11), lost, tmp_path) as results:
        assert list(results) == [x * x for x in range(11)]


def test_what_the_function_raises_arrives(tmp_path):
    with (
        pytest.raises(ValueError, match="five came"),
        mapped("local", 2, picky, range(9), lost, tmp_path) as r,
    ):
        list(r)


def test_a_process_of_this_machine_that_dies_is_a_sentence(tmp_path):
    with pytest.raises(PoolError, match="A worker process died .* fewer workers"):
        with mapped("local", 2, deadly, range(9), lost, tmp_path) as results:
            list(results)


def test_workers_leave_ctrl_c_to_the_first_process():
    before, threads = signal.getsignal(signal.SIGINT), (cv2.getNumThreads(), torch.get_num_threads())
    try:
        pool._start_worker()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])


def test_there_is_a_core():
    assert available_cores() >= 1


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_ray(name, *rest, **options):
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(ImportError) as caught, mapped("ray", 1, square, [1], lost, tmp_path):
        pass
    assert missing_package(caught.value) == "this command needs ray: pip install 'mofaface[cluster]'"


def test_a_folder_that_a_machine_does_not_see_is_a_sentence(tmp_path):
    with pytest.raises(PoolError, match=f"machine {platform.node()} .* does not see the folder .*gone"):
        pool._each_on_cluster(square, [1], tmp_path, tmp_path / "gone")


@needs_ray
def test_a_cluster_that_does_not_answer_is_a_sentence(tmp_path):
    """In a process of its own: in this one the other tests' Ray may be running, which would be used."""
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        command = "from mofaface.pool import ray_cluster\nwith ray_cluster(workers=1):\n    pass"
        ended = subprocess.run(
            [sys.executable, "-c", command],
            env=os.environ | {"RAY_ADDRESS": address},
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert re.search(
        f"PoolError: no Ray cluster .* at RAY_ADDRESS={address} .* unset RAY_ADDRESS", ended.stderr
    )


@needs_ray
def test_ray_keeps_the_order_and_says_how_large_it_is(local_ray, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "mofaface"), mapped("ray", 2, square, range(11), lost, tmp_path) as r:
        assert list(r) == [x * x for x in range(11)]
    assert "Ray: cores 2, machines 1" in caplog.text


@needs_ray
def test_relative_paths_and_threads_of_ray_are_those_of_a_local_process(local_ray, tmp_path, monkeypatch):
    (tmp_path / "here.txt").touch()
    monkeypatch.chdir(tmp_path)
    with mapped("ray", 2, exists, ["here.txt", "gone.txt"], lost, tmp_path) as results:
        assert list(results) == [(True, 1, 1), (False, 1, 1)]


@needs_ray
def test_what_the_function_raises_in_ray_arrives_as_it_was(local_ray, tmp_path):
    with pytest.raises(ValueError) as caught, mapped("ray", 2, picky, range(9), lost, tmp_path) as results:
        list(results)
    assert str(caught.value) == "five came; give another number"


@needs_ray
def test_a_machine_that_lacks_a_module_is_a_sentence(local_ray, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def same(x):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    same = importlib.import_module("only_here").same
    with pytest.raises(PoolError) as caught, mapped("ray", 2, same, range(3), lost, tmp_path) as results:
        list(results)
    assert "No module named 'only_here'" in str(caught.value) and "\n" not in str(caught.value)
    assert "every machine has this mofaface" in str(caught.value)


@needs_ray
def test_an_item_that_kills_its_process_in_ray_is_lost_alone(local_ray, tmp_path):
    with mapped("ray", 2, deadly, range(9), lost, tmp_path) as results:
        found = list(results)
    assert found[:5] + found[6:] == [0, 1, 2, 3, 4, 6, 7, 8]
    assert found[5] == "5: the processes that worked on it died (WorkerCrashedError); try it alone"


@needs_ray
def test_items_of_a_process_of_ray_that_died_are_tried_again(local_ray, tmp_path):
    items = [(x, str(tmp_path / "died")) for x in range(9)]
    with mapped("ray", 2, deadly_at_first, items, lost, tmp_path) as results:
        assert list(results) == list(range(9))
    assert (tmp_path / "died").exists()


@needs_ray
def test_a_ray_that_the_caller_connected_stays_connected(local_ray, tmp_path):
    threads = threading.active_count()
    with mapped("ray", 2, square, [3], lost, tmp_path) as results:
        assert list(results) == [9]
    assert local_ray.is_initialized() and threading.active_count() == threads
