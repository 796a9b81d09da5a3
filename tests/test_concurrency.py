"""One segmenter serves several threads, and processes that are forked or spawned."""

from __future__ import annotations

import copy
import io
import multiprocessing
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_model
from sct_rootlets_task import environment
from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.inference.loading import Options, load_network
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.io.images import InputImage, check_image
from sct_rootlets_task.models.resolve import InstalledModel
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.segmentation.segmenter import Segmenter, Settings
from volumes import affine_of, smooth_noise

TASK = TASKS["rootlets"]
WAIT_S = 120
ENGINES = [
    "openvino",
    pytest.param("torch", marks=pytest.mark.network),
    pytest.param("nnunet", marks=pytest.mark.network),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_model.write(tmp_path / "model")


def segmenter(folder: Path, engine: str, **options: Any) -> Segmenter:
    network = Options(engine=engine, device="cpu", **{"threads": 1, **options})
    settings = Settings(network=network, tiles="all", raw=True)
    return Segmenter(TASK, InstalledModel(folder, None, "small"), settings)


def image(number: int) -> InputImage:
    import nibabel as nib

    shape = (18, 20, 22 + 8 * (number % 3))
    data = smooth_noise(shape, seed=number)
    return check_image(nib.Nifti1Image(data, affine_of("RAS", (1, 1, 1))), Path("image.nii"))


def labels_of(one: Segmenter, number: int) -> np.ndarray:
    return one.segment(image(number)).labels


def at_once(tasks: list[Callable[[], np.ndarray]]) -> list[np.ndarray]:
    """Run tasks in threads that begin at the same time."""
    barrier = threading.Barrier(len(tasks))

    def wait(task: Callable[[], np.ndarray]) -> np.ndarray:
        barrier.wait(WAIT_S)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(wait, tasks))


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert any(one.any() for one in expected)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("engine", ENGINES)
def test_four_threads_get_from_one_segmenter_what_one_thread_gets(
    folder: Path, engine: str
) -> None:
    one = segmenter(folder, engine)
    numbers = [0, 1, 2, 3]
    expected = [labels_of(one, number) for number in numbers]
    for _ in range(3 if engine == "openvino" else 1):
        found = at_once([lambda n=number: labels_of(one, n) for number in numbers])  # type: ignore[misc]
        assert_same(found, expected)


def test_each_thread_is_told_the_tiles_and_seconds_of_its_own_image(folder: Path) -> None:
    one = segmenter(folder, "openvino")
    expected = [one.segment(image(number)).tiles for number in range(3)]
    assert len(set(expected)) > 1
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda number: one.segment(image(number)), range(3)))
    assert [segmentation.tiles for segmentation in found] == expected
    for segmentation in found:
        assert 0 < segmentation.seconds["tiles"] <= segmentation.seconds["network"]


@pytest.mark.parametrize("engine", ENGINES)
def test_segmenters_that_are_made_and_run_in_threads_do_not_mix(
    folder: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    numbers = [0, 1, 2, 3]
    expected = [labels_of(segmenter(folder, engine), number) for number in numbers]
    found = at_once(
        [lambda n=number: labels_of(segmenter(folder, engine), n) for number in numbers]  # type: ignore[misc]
    )
    assert_same(found, expected)
    assert sys.stdout is stdout


def test_a_thread_that_fails_leaves_the_segmenter_to_the_others(folder: Path) -> None:
    one = segmenter(folder, "openvino")
    expected = labels_of(one, 0)
    broken = image(0)
    object.__setattr__(broken, "affine", np.zeros((4, 4)))
    with pytest.raises(Exception, match=r".+"):
        one.segment(broken)
    assert np.array_equal(labels_of(one, 0), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("way", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy])
def test_a_copy_of_a_segmenter_loads_the_model_again(
    folder: Path, engine: str, way: Callable[[Segmenter], Segmenter]
) -> None:
    one = segmenter(folder, engine)
    other = way(one)
    assert other.network is not one.network
    assert other.settings == one.settings
    assert np.array_equal(labels_of(other, 1), labels_of(one, 1))


def test_a_pickled_segmenter_takes_the_threads_of_where_it_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = segmenter(folder, "openvino", threads=None)
    monkeypatch.setenv(environment.THREADS, "3")
    assert pickle.loads(pickle.dumps(one)).threads == 3
    assert pickle.loads(pickle.dumps(segmenter(folder, "openvino", threads=2))).threads == 2


def test_a_pickled_segmenter_holds_no_weights(folder: Path) -> None:
    assert len(pickle.dumps(segmenter(folder, "openvino"))) < 20_000


def answer(one: Segmenter, queue: Queue[Any]) -> None:
    """Segment in a process, and send the labels or the error back."""
    try:
        queue.put(labels_of(one, 1))
    except Exception as error:
        queue.put(repr(error))


def in_process(method: str, one: Segmenter) -> Any:
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=answer, args=(one, queue), daemon=True)
    with warnings.catch_warnings():
        # Newer Pythons warn of forks where there are threads; this is what is tried here.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    try:
        return queue.get(timeout=WAIT_S)
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_may_use_a_segmenter_that_its_parent_used(
    folder: Path, engine: str, method: str
) -> None:
    one = segmenter(folder, engine, threads=2)
    expected = labels_of(one, 1)
    assert np.array_equal(in_process(method, one), expected)


def test_a_fork_while_another_thread_segments_is_an_error_and_no_endless_wait(folder: Path) -> None:
    one = segmenter(folder, "openvino")
    with one._alone():
        found = in_process("fork", one)
    assert "UsageError" in found
    assert "'spawn'" in found


def test_a_forked_process_has_locks_of_its_own(folder: Path) -> None:
    one = segmenter(folder, "openvino")
    expected = labels_of(one, 1)
    one._locks[os.getpid() + 1] = threading.Lock()
    assert np.array_equal(labels_of(one, 1), expected)
    with one._locks[os.getpid() + 1], pytest.raises(UsageError, match="forked"):
        labels_of(one, 1)


@pytest.mark.parametrize(("environ", "threads"), [({"NSLOTS": "1"}, 1), ({"PBS_NP": "1"}, 1)])
def test_the_python_interface_takes_the_cores_that_the_job_was_given(
    folder: Path, environ: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    network: Any = load_network(read_model_folder(folder), Options(device="cpu"))
    (engine,) = network.engines
    assert engine._compiled.network.get_property("INFERENCE_NUM_THREADS") == threads
    # Else several processes would share the first cores.
    assert engine._compiled.network.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.network
@pytest.mark.parametrize("engine", ["torch", "nnunet"])
def test_torch_runs_on_the_threads_asked_for_and_is_left_as_it_was(
    folder: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    seen = []
    before = torch.get_num_threads()
    monkeypatch.setenv("NSLOTS", "1")
    torch.set_num_threads(5)
    try:
        one = segmenter(folder, engine, threads=None)
        model: Any = one.network
        module = model._predictor.network if engine == "nnunet" else model.engines[0]._network
        module.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
        labels_of(one, 0)
        assert torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


@pytest.mark.parametrize("threads", [0, -1, 1025, True])
def test_settings_with_no_number_of_threads_are_refused(folder: Path, threads: int) -> None:
    with pytest.raises(UsageError, match="threads expects a whole number from 1 to 1024"):
        segmenter(folder, "openvino", threads=threads)
