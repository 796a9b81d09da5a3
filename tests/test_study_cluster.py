"""A study on a real dask cluster: same outcomes as in the pool, whatever the cluster's settings."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("distributed")
from dask_cluster import Cluster, cluster_in
from sct_rootlets_task import environment
from sct_rootlets_task.errors import (
    EngineError,
    MissingDependencyError,
    ModelError,
    OutputError,
    UsageError,
)
from sct_rootlets_task.study import cluster as module
from sct_rootlets_task.study.attempt import Named
from sct_rootlets_task.study.cluster import run_on_cluster
from sct_rootlets_task.study.outcome import DONE, FAILED, SET_ASIDE, Outcome
from study_work import Note, Prepare, notes, prepared, wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")
HOWS = ["", "die", "fail", "", "memory", "", "exit", ""]
EXPECTED = [DONE, SET_ASIDE, FAILED, DONE, FAILED, DONE, SET_ASIDE, DONE]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two worker processes of two threads; dask would grant a task many deaths."""
    with cluster_in(tmp_path_factory.mktemp("cluster"), allowed_failures=50) as made:
        made.add_workers(2, 2)
        yield made


@pytest.fixture
def small_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """No workers yet; dask gives a task up when its worker dies for the first time."""
    folder = tmp_path / "small cluster"
    folder.mkdir()
    with cluster_in(folder, allowed_failures=0) as made:
        yield made


def run(cluster: Cluster, folder: Path, *hows: str) -> dict[str, Outcome]:
    outcomes = run_on_cluster(
        notes(folder, *hows), Prepare(folder), cluster.address, work_dir=folder / "work"
    )
    return {outcome.name: outcome for outcome in outcomes}


def statuses(found: dict[str, Outcome]) -> list[str]:
    return [found[name].status for name in sorted(found)]


def test_whatever_happens_each_item_gets_an_outcome_and_the_others_go_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    found = run(cluster, tmp_path, *HOWS)
    assert statuses(found) == EXPECTED
    assert found["sub-02"].kind == "WorkerDied"
    assert found["sub-03"].error == "The image is empty. Check it."
    assert len(notes(tmp_path, *HOWS)[1].begun.read_text().splitlines()) == 3
    assert not any((tmp_path / "work").iterdir())


def test_a_cluster_that_gives_up_at_once_and_whose_workers_come_late_does_the_same(
    small_cluster: Cluster, tmp_path: Path
) -> None:
    found: dict[str, Outcome] = {}
    # A worker that died while it starts would take its nanny with it.
    hows = ["sleep1", *HOWS[1:], "die twice"]
    thread = threading.Thread(target=lambda: found.update(run(small_cluster, tmp_path, *hows)))
    thread.start()
    wait_until((tmp_path / "work").exists)
    small_cluster.add_workers(1, 1)
    thread.join(60)
    assert statuses(found) == [*EXPECTED, DONE]
    assert found["sub-09"].details["attempts"] == 3


def test_a_worker_prepares_once_for_all_its_threads(cluster: Cluster, tmp_path: Path) -> None:
    found = run(cluster, tmp_path, *["sleep0.05"] * 12)
    assert statuses(found) == [DONE] * 12
    assert len(prepared(tmp_path)) == len(set(prepared(tmp_path))) <= 2
    assert {outcome.details["SCT_ROOTLETS_THREADS"] for outcome in found.values()} == {"2"}


def test_few_items_are_submitted_and_those_not_begun_are_taken_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    taken: list[str] = []

    def endless() -> Iterator[Named]:
        for number in range(10_000):
            taken.append(str(number))
            yield Note(str(number), tmp_path, "sleep0.1")

    outcomes = run_on_cluster(
        endless(), Prepare(tmp_path), str(cluster.file), work_dir=tmp_path / "work"
    )
    with closing(outcomes):
        assert next(outcomes).status == DONE
        assert len(taken) <= 34
    begun = len(list(tmp_path.glob("*.begun")))
    assert run(cluster, tmp_path, "")["sub-01"].status == DONE
    assert len(list(tmp_path.glob("*.begun"))) <= begun + 5


def test_a_setup_that_fails_ends_the_run(cluster: Cluster, tmp_path: Path) -> None:
    outcomes = run_on_cluster(
        notes(tmp_path, ""), Prepare(tmp_path, "fail"), cluster.address, work_dir=tmp_path
    )
    with pytest.raises(ModelError, match="The model is gone"):
        list(outcomes)


def test_workers_that_do_not_see_the_data_are_named_before_the_first_item(
    cluster: Cluster, tmp_path: Path
) -> None:
    outcomes = run_on_cluster(
        notes(tmp_path, ""),
        Prepare(tmp_path),
        cluster.address,
        work_dir=tmp_path,
        seen=[tmp_path / "data"],
    )
    with pytest.raises(UsageError, match=r"does not see .*data"):
        list(outcomes)
    assert not (tmp_path / "prepared").exists()


def test_workers_of_another_version_are_refused(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "VERSION", "9.9")
    with pytest.raises(UsageError, match=r"has version \S+ of sct_rootlets_task, here it is 9\.9"):
        run(cluster, tmp_path, "")


def test_workers_without_the_package_are_refused(small_cluster: Cluster, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow" / "sct_rootlets_task"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("raise ModuleNotFoundError('No such module', name='x')")
    small_cluster.add_workers(1, 1, shadow.parent)
    with pytest.raises(UsageError, match="lacks sct_rootlets_task"):
        run(small_cluster, tmp_path, "")


def test_a_scheduler_that_goes_away_ends_the_run(small_cluster: Cluster, tmp_path: Path) -> None:
    outcomes = run_on_cluster(
        notes(tmp_path, ""), Prepare(tmp_path), small_cluster.address, work_dir=tmp_path
    )
    timer = threading.Timer(1.0, small_cluster.kill)
    timer.start()
    with pytest.raises(EngineError, match="The cluster is gone"):
        list(outcomes)
    timer.join()


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:1", "nowhere", "tcp://127.0.0.1:x", "a://b:1"]
)
def test_an_address_where_no_scheduler_answers_is_refused(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 0.2)
    outcomes = run_on_cluster(notes(tmp_path, ""), Prepare(tmp_path), address, work_dir=tmp_path)
    with pytest.raises(UsageError, match="No dask scheduler answers at"):
        list(outcomes)


def test_without_dask_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"sct-rootlets-task\[cluster\]"):
        list(run_on_cluster([], Prepare(tmp_path), "tcp://a:1", work_dir=tmp_path))


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "work").touch()
    with pytest.raises(OutputError, match=r"Cannot write to .*work.* with -w"):
        list(run_on_cluster([], Prepare(tmp_path), "tcp://a:1", work_dir=tmp_path / "work"))
