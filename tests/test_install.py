"""Installing: updates, processes at once, kills, read-only and full disks."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import queue
import random
import shutil
import signal
import socket
import stat
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from install_worker import PHASES, Worker
from loopback import Loopback, stalled, status, trickled, truncated, vanishing, whole
from model_zips import (
    LAYOUTS,
    TRAINER,
    deep_folder,
    make_release,
    make_task,
    model_files,
    model_zip,
    pack,
    weights_of,
    write_model,
    write_zip,
)
from rights import unprivileged
from sct_rootlets_task.errors import ArchiveError, DownloadError, InstallError, UsageError
from sct_rootlets_task.models.download import RetryPolicy
from sct_rootlets_task.models.install import decide, install, install_zip
from sct_rootlets_task.models.installed import (
    InstalledModel,
    find_installed,
    list_models,
    verify,
)
from sct_rootlets_task.registry import STARTER
from sct_rootlets_task.tasks import Release

HASTY = RetryPolicy(attempts=2, pause=0.0, connect=2.0, stall=0.3, lock=20.0)
SLOT = "model_fake_r1"
OLD, NEW = model_zip("old"), model_zip("new")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as loopback:
        yield loopback


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as running:
        yield running


def _install(release: Release, root: Path, **options: object) -> InstalledModel:
    return install(make_task(release), release, root, retry=HASTY, **options)  # type: ignore[arg-type]


def _found(root: Path) -> InstalledModel | None:
    release = make_release("r1", "https://models.invalid/m.zip")
    return find_installed(make_task(release), release, root)


def _found_weights(root: Path) -> str | None:
    """Return which model is found, after making sure that it is complete to the last byte."""
    model = _found(root)
    if model is None:
        return None
    assert verify(model.path) == []
    return weights_of(model.path)


def _leftovers(root: Path) -> list[str]:
    work = root / ".installing" / SLOT
    return [path.name for path in work.iterdir() if path.name != "lock"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_release_is_installed_from_any_layout(layout: str, server: Loopback, root: Path) -> None:
    data = model_zip(layout=layout)
    release = make_release("r1", server.serve("m.zip", whole(data)))
    model = _install(release, root)
    digest = hashlib.sha256(data).hexdigest()
    assert (model.release, model.name, model.custom) == (release, "r1", False)
    assert (model.urls, model.sha256) == (release.urls, digest)
    assert model.path.parent == root / SLOT
    assert model.path.name.startswith("nnUNetTrainer")
    assert model == _found(root) or model.release is release
    assert _leftovers(root) == []


def test_source_json_has_the_keys_of_sct_and_ours(server: Loopback, root: Path) -> None:
    url = server.serve("m.zip", whole(NEW))
    _install(make_release("r1", "file:///none.zip", url), root)
    record = json.loads((root / SLOT / "source.json").read_text())
    assert {key: record[key] for key in ("model_name", "model_urls", "custom")} == {
        "model_name": "model_fake",
        "model_urls": url,
        "custom": False,
    }
    assert record["release"] == "r1"
    assert record["sha256"] == hashlib.sha256(NEW).hexdigest()
    assert record["files"] == {
        f"{TRAINER}/{name}": hashlib.sha256(data).hexdigest()
        for name, data in model_files("new").items()
    }
    assert record["installed"].endswith("+00:00")
    assert record["installed_by"].startswith("sct-rootlets-task ")


def test_installed_files_can_be_read_by_other_users(server: Loopback, root: Path) -> None:
    model = _install(make_release("r1", server.serve("m.zip", whole(NEW))), root)
    umask = os.umask(0)
    os.umask(umask)
    for path in (model.path.parent, model.path, model.path / "plans.json"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044 & ~umask


def test_installing_again_keeps_an_intact_model_without_a_download(
    server: Loopback, root: Path
) -> None:
    release = make_release("r1", server.serve("m.zip", whole(NEW)))
    first = _install(release, root)
    assert _install(release, root) == first
    assert server.count("m.zip") == 1
    _install(release, root, force=True)
    assert server.count("m.zip") == 2


def test_a_damaged_model_is_installed_again(server: Loopback, root: Path) -> None:
    release = make_release("r1", server.serve("m.zip", whole(NEW)))
    plans = _install(release, root).path / "plans.json"
    plans.write_text("{}")
    _install(release, root)
    assert _found_weights(root) == "new"
    assert server.count("m.zip") == 2


def test_a_release_with_a_new_address_replaces_the_old_model(server: Loopback, root: Path) -> None:
    _install(make_release("r1", server.serve("old.zip", whole(OLD))), root)
    _install(make_release("r1", server.serve("new.zip", whole(NEW))), root)
    assert _found_weights(root) == "new"
    assert _leftovers(root) == []


def test_a_mirror_that_fails_gives_way_to_the_next(server: Loopback, root: Path) -> None:
    urls = [
        server.serve("gone", status(404)),
        server.serve("login", whole(b"<html>please log in</html>")),
        server.serve("cut", truncated(NEW, len(NEW) // 2)),
        server.serve("good", whole(NEW)),
    ]
    assert _install(make_release("r1", *urls), root).urls == (urls[-1],)


def test_the_checksum_of_a_release_guards_its_official_archive(
    server: Loopback, root: Path
) -> None:
    wrong, right = server.serve("wrong", whole(OLD)), server.serve("right", whole(NEW))
    digest = hashlib.sha256(NEW).hexdigest()
    with pytest.raises(DownloadError, match="wrong checksum"):
        _install(make_release("r1", wrong, sha256=digest), root)
    assert _install(make_release("r1", wrong, right, sha256=digest), root).urls == (right,)


def test_custom_archives_fill_the_place_of_the_release(
    server: Loopback, root: Path, tmp_path: Path
) -> None:
    official = server.serve("m.zip", whole(OLD))
    release = make_release("r1", official, sha256=hashlib.sha256(OLD).hexdigest())
    local = write_zip(tmp_path / "mine.zip", NEW)
    assert _install(release, root).custom is False
    for urls in ([str(local)], [local.as_uri()], [server.serve("mine", whole(NEW))]):
        model = _install(release, root, urls=urls)
        assert (model.name, model.custom, model.release) == ("custom", True, release)
        assert model.path.parent == root / SLOT
        assert json.loads((root / SLOT / "source.json").read_text())["custom"] is True
        assert _found_weights(root) == "new"
    assert server.count("m.zip") == 1
    assert _install(release, root).custom is False
    assert _found_weights(root) == "old"


def test_several_custom_mirrors_are_tried_in_order(server: Loopback, root: Path) -> None:
    urls = [server.serve("gone", status(404)), server.serve("good", whole(NEW)), "/none.zip"]
    assert _install(make_release("r1"), root, urls=urls).urls == (urls[1],)


def test_a_custom_archive_is_always_installed_anew(server: Loopback, root: Path) -> None:
    url = server.serve("m.zip", whole(NEW))
    for count in (1, 2):
        _install(make_release("r1", url), root, urls=[url])
        assert server.count("m.zip") == count


@pytest.mark.parametrize("urls", [[], ["/some.zip"]])
def test_a_built_in_release_cannot_be_replaced(urls: list[str], root: Path) -> None:
    with pytest.raises(UsageError):
        install(make_task(STARTER), STARTER, root, urls=urls)
    assert install(make_task(STARTER), STARTER, root).builtin
    assert not root.exists()


FAILURES = {
    "404": (status(404), DownloadError),
    "truncated": (truncated(NEW, 100), DownloadError),
    "stall": (stalled(NEW, 100), DownloadError),
    "gone in the middle": (vanishing(NEW, 100), DownloadError),
    "no zip": (whole(b"<html>"), DownloadError),
    "no model": (whole(pack({"README": b""})), ArchiveError),
    "traversal": (whole(pack({"../evil": b""})), ArchiveError),
    "bomb": (whole(pack({"bomb": bytes(80 << 20)})), ArchiveError),
}


@pytest.mark.parametrize(("behavior", "error"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("update", [False, True], ids=["install", "update"])
def test_a_failure_leaves_what_was_there(
    behavior: object, error: type[Exception], update: bool, server: Loopback, root: Path
) -> None:
    if update:
        _install(make_release("r1", server.serve("old.zip", whole(OLD))), root)
    url = server.serve("new.zip", behavior)  # type: ignore[arg-type]
    with pytest.raises(error):
        _install(make_release("r1", url), root)
    assert _found_weights(root) == ("old" if update else None)
    assert _leftovers(root) == []


def test_a_failed_download_says_how_to_go_on(root: Path) -> None:
    first = make_release("r1", "/none/a.zip", "/none/b.zip")
    second = make_release("r2", "/none/c.zip")
    task = make_task(first, second, fallback=STARTER)
    with pytest.raises(DownloadError) as caught:
        install(task, first, root)
    text = str(caught.value)
    assert "/none/a.zip: there is no such file" in text
    assert "/none/b.zip: there is no such file" in text
    assert "'sct_deepseg fake -install -custom-url /path/to.zip'" in text
    assert "-model starter" in text
    with pytest.raises(DownloadError, match="-install -model r2 -custom-url"):
        install(task, second, root)


def test_offline_no_attempt_is_made_and_files_still_install(
    server: Loopback, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    release = make_release("r1", server.serve("m.zip", whole(NEW)))
    with pytest.raises(DownloadError, match="SCT_ROOTLETS_OFFLINE is set"):
        _install(release, root)
    assert not root.exists()
    _install(release, root, urls=[str(write_zip(tmp_path / "m.zip", NEW))])
    assert _found_weights(root) == "new"
    assert server.requests == []


INSTALLED = InstalledModel(Path("x"), None, "r1", ("https://a",), "0" * 64)
DECISIONS = [
    (None, False, True, None, "install"),
    (None, True, True, None, "install"),
    (INSTALLED, False, True, None, "keep"),
    (INSTALLED, True, True, None, "update"),
    (INSTALLED, False, False, None, "update"),
    (INSTALLED, False, True, "0" * 64, "keep"),
    (INSTALLED, False, True, "1" * 64, "update"),
    (InstalledModel(Path("x"), None, "r1", ("https://b",)), False, True, None, "update"),
    (InstalledModel(Path("x"), None, "r1", ("https://a",)), False, True, "1" * 64, "keep"),
    (InstalledModel(Path("x"), None, "r1"), False, True, None, "update"),
    (
        InstalledModel(Path("x"), None, "c", ("https://a",), custom=True),
        False,
        True,
        None,
        "update",
    ),
    (InstalledModel(Path("x"), None, "s", builtin=True), True, True, None, "keep"),
]


@pytest.mark.parametrize(("installed", "anew", "intact", "sha256", "expected"), DECISIONS)
def test_decision(
    installed: InstalledModel | None, anew: bool, intact: bool, sha256: str | None, expected: str
) -> None:
    release = Release("r1", "", ("https://a",), sha256=sha256)
    assert decide(installed, release, anew=anew, intact=intact) == expected


def test_a_model_without_record_is_replaced_only_by_a_complete_one(
    server: Loopback, root: Path
) -> None:
    write_model(root / SLOT, "by hand")
    with pytest.raises(DownloadError):
        _install(make_release("r1", server.url("none.zip")), root)
    found = _found(root)
    assert found is not None
    assert weights_of(found.path) == "by hand"
    _install(make_release("r1", server.serve("m.zip", whole(NEW))), root)
    assert _found_weights(root) == "new"


def test_a_model_that_sct_installed_is_kept_and_never_touched(server: Loopback, root: Path) -> None:
    url = server.serve("m.zip", whole(NEW))
    trainer = write_model(root / "model_fake", "sct")
    source = {"model_name": "model_fake", "model_urls": url, "custom": False}
    (trainer.parent / "source.json").write_text(json.dumps(source))
    assert _install(make_release("r1", url), root).path == trainer
    assert server.count("m.zip") == 0
    assert _install(make_release("r1", url), root, force=True).path.parent == root / SLOT
    assert weights_of(trainer) == "sct"


def test_a_link_in_the_place_of_a_model_is_replaced_and_its_target_left(
    server: Loopback, root: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "shared", "shared")
    root.mkdir()
    (root / SLOT).symlink_to(tmp_path / "shared")
    _install(make_release("r1", server.serve("m.zip", whole(NEW))), root)
    assert _found_weights(root) == "new"
    assert weights_of(tmp_path / "shared" / TRAINER) == "shared"
    assert _leftovers(root) == []


def test_a_zip_of_the_users_own_is_unpacked_once(root: Path, tmp_path: Path) -> None:
    task = make_task(make_release("r1"))
    zip_path = write_zip(tmp_path / "mine.zip", NEW)
    first = install_zip(task, zip_path, root)
    assert (first.name, first.custom, first.release) == ("custom", True, None)
    assert first.urls == (str(zip_path),)
    assert hashlib.sha256(NEW).hexdigest()[:16] in first.path.parent.name
    stamp = first.path.stat().st_mtime_ns
    assert install_zip(task, zip_path, root) == first
    assert first.path.stat().st_mtime_ns == stamp
    other = install_zip(task, write_zip(tmp_path / "other.zip", OLD), root)
    assert other.path != first.path


def test_a_zip_that_cannot_be_read_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="Cannot read the archive"):
        install_zip(make_task(make_release("r1")), tmp_path / "none.zip", root)


@pytest.fixture
def closed_root() -> Iterator[Path]:
    """Give a model root that can be read by everyone and written by no one."""
    folder = Path(tempfile.mkdtemp())
    (folder / "root").mkdir()
    yield folder / "root"
    (folder / "root").chmod(0o755)
    shutil.rmtree(folder)


def _close(root: Path) -> None:
    root.parent.chmod(0o755)
    root.chmod(0o555)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no read-only mode")
def test_a_read_only_root_serves_the_model_it_has(server: Loopback, closed_root: Path) -> None:
    release = make_release("r1", server.serve("m.zip", whole(NEW)))
    _install(release, closed_root)
    shutil.rmtree(closed_root / ".installing")
    _close(closed_root)
    with unprivileged():
        assert _found_weights(closed_root) == "new"
        assert _install(release, closed_root).name == "r1"
    assert [path.name for path in closed_root.iterdir()] == [SLOT]


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no read-only mode")
def test_a_read_only_root_without_the_model_says_what_to_do(
    server: Loopback, closed_root: Path
) -> None:
    release = make_release("r1", server.serve("m.zip", whole(NEW)))
    _close(closed_root)
    with (
        unprivileged(),
        pytest.raises(InstallError, match="-model-dir FOLDER or the variable SCT_ROOTLETS_MODELS"),
    ):
        _install(release, closed_root)
    assert server.requests == []


def test_a_model_that_cannot_be_moved_into_place_gives_way_to_the_old_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on systems where a folder with open files cannot be renamed."""
    _install(make_release("r1", str(write_zip(tmp_path / "old.zip", OLD))), root)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name.startswith("incoming-"):
            raise PermissionError(errno.EACCES, "in use")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(InstallError, match="in use"):
        _install(make_release("r1", str(write_zip(tmp_path / "new.zip", NEW))), root)
    assert (root / SLOT).is_dir()
    assert _found_weights(root) == "old"
    assert _leftovers(root) == []


def test_a_file_in_the_place_of_the_root_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InstallError, match=r"could not be installed in .*file"):
        _install(make_release("r1"), tmp_path / "file")


@forks
def test_a_full_disk_leaves_the_old_model_and_says_what_to_do(
    worker: Worker, root: Path, tmp_path: Path
) -> None:
    """The limit on file sizes stands for a full disk: the write fails half-way."""
    old = str(write_zip(tmp_path / "old.zip", OLD))
    worker.run(root, official=old)
    files = {f"{TRAINER}/{n}": d for n, d in model_files("new").items()}
    files[f"{TRAINER}/fold_all/checkpoint_final.pth"] = os.urandom(100) * 2000
    new = write_zip(tmp_path / "new.zip", pack(files))
    assert new.stat().st_size < 50_000
    reports = worker.run(root, official=str(new), largest_file=50_000)
    assert "has no room for the model" in reports["error"][0]
    assert "-model-dir" in reports["error"][0]
    assert _found_weights(root) == "old"
    assert _leftovers(root) == []


@forks
def test_leftovers_go_when_the_model_is_kept_unless_someone_is_at_work(
    root: Path, tmp_path: Path
) -> None:
    release = make_release("r1", str(write_zip(tmp_path / "m.zip", NEW)))
    _install(release, root)
    work = root / ".installing" / SLOT
    (work / "incoming-x").mkdir()
    with FileLock(work / "lock"), ThreadPoolExecutor(1) as other:
        # In a thread of its own, for which the lock is as foreign as for another process.
        assert other.submit(_install, release, root).result(timeout=30).name == "r1"
        assert _leftovers(root) == ["incoming-x"]
    _install(release, root)
    assert _leftovers(root) == []


@forks
def test_eight_processes_at_once_download_once(server: Loopback, root: Path) -> None:
    waiting = threading.Semaphore(0)

    def hold(piece: int) -> None:
        """Let the download end when all the others have found the lock taken."""
        if piece == 0:
            for _ in range(7):
                assert waiting.acquire(timeout=60)

    def watch(worker: Worker) -> dict[str, str]:
        reports = {}
        for word, text in worker.events():
            reports[word] = text
            if "Another process is installing" in text:
                waiting.release()
        return reports

    url = server.serve("m.zip", trickled(NEW, 20, 0.001, hold))
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker()) for _ in range(8)]
        threads = stack.enter_context(ThreadPoolExecutor(8))
        for worker in workers:
            worker.start(root, official=url)
        reports = list(threads.map(watch, workers))
    assert [report.get("error") for report in reports] == [None] * 8
    assert {report["done"] for report in reports} == {str(root / SLOT / TRAINER)}
    assert server.count("m.zip") == 1
    assert _found_weights(root) == "new"


@forks
def test_who_waits_takes_over_when_the_first_process_is_killed(
    server: Loopback, root: Path
) -> None:
    reached = threading.Event()
    go_on = threading.Event()

    def hold(piece: int) -> None:
        reached.set()
        go_on.wait(30)

    url = server.serve("m.zip", trickled(NEW, 2, 0.0, hold), whole(NEW))
    with Worker() as first, Worker() as second:
        victim = first.start(root, official=url)
        assert reached.wait(30)
        second.start(root, official=url)
        events = second.events()
        assert any("Another process is installing" in text for _, text in events)
        os.kill(victim, signal.SIGKILL)
        go_on.set()
        assert first.finish()["exit"] == ["-9"]
        assert "done" in dict(events)
    assert server.count("m.zip") == 2
    assert _found_weights(root) == "new"
    assert _leftovers(root) == []


@forks
def test_waiting_has_a_limit(server: Loopback, root: Path) -> None:
    reached = threading.Event()

    def hold(piece: int) -> None:
        reached.set()
        server.released.wait(30)

    url = server.serve("m.zip", trickled(NEW, 2, 0.0, hold))
    with Worker() as first, Worker() as second:
        first.start(root, official=url)
        assert reached.wait(30)
        report = second.run(root, official=url, lock=0.3)
        server.released.set()
        assert "done" in first.finish()
    assert "for more than 0.3 s" in report["error"][0]


def _steps(worker: Worker, root: Path, url: str) -> Counter[str]:
    """Return how many changes of the file system each phase of an installation makes."""
    reports = worker.run(root, official=url, watch=True)
    assert "done" in reports
    return Counter(step.split(" ")[0] for step in reports["step"])


@pytest.fixture
def archives(tmp_path: Path) -> dict[str, str]:
    """Give two archives as local files, so that every step of an installation repeats exactly."""
    return {
        "old": str(write_zip(tmp_path / "old.zip", OLD)),
        "new": str(write_zip(tmp_path / "new.zip", NEW)),
    }


@forks
def test_a_first_installation_killed_before_any_of_its_steps_is_repaired(
    worker: Worker, tmp_path: Path, archives: dict[str, str]
) -> None:
    steps = _steps(worker, tmp_path / "dry", archives["new"])
    assert set(steps) >= {"prepare", "fetch", "unpack", "swap"}
    for number, (phase, n) in enumerate((p, n + 1) for p in steps for n in range(steps[p])):
        root = tmp_path / f"root{number}"
        kill = [phase, n]
        assert worker.run(root, official=archives["new"], watch=True, kill=kill)["exit"] == ["-9"]
        assert _found_weights(root) in (None, "new")
        assert "done" in worker.run(root, official=archives["new"])
        assert _found_weights(root) == "new"
        assert _leftovers(root) == []


@forks
def test_an_update_killed_before_each_of_its_steps_in_turn_never_loses_the_model(
    worker: Worker, tmp_path: Path, archives: dict[str, str]
) -> None:
    """The leftovers of all kills add up; one further run clears them."""
    _steps(worker, tmp_path / "dry", archives["old"])
    steps = _steps(worker, tmp_path / "dry", archives["new"])
    assert set(steps) == {"prepare", *PHASES}
    root = tmp_path / "root"
    worker.run(root, official=archives["old"])
    for phase, n in ((p, n + 1) for p in steps for n in range(steps[p])):
        target = "old" if _found_weights(root) == "new" else "new"
        report = worker.run(root, official=archives[target], watch=True, kill=[phase, n])
        assert report["exit"] == ["-9"], (phase, n)
        assert _found_weights(root) in ("old", "new")
    assert "done" in worker.run(root, official=archives["new"])
    assert _found_weights(root) == "new"
    assert _leftovers(root) == []


@forks
def test_fifty_kills_at_random_points_never_lose_the_model(
    worker: Worker, server: Loopback, tmp_path: Path, archives: dict[str, str]
) -> None:
    seed = int(os.environ.get("SCT_ROOTLETS_TEST_SEED", random.randrange(1 << 32)))
    print(f"SCT_ROOTLETS_TEST_SEED={seed}")
    dice = random.Random(seed)
    _steps(worker, tmp_path / "dry", archives["old"])
    steps = _steps(worker, tmp_path / "dry", archives["new"])
    root = tmp_path / "root"
    worker.run(root, official=archives["old"])
    killed: Counter[str] = Counter()
    phases = [("download", *PHASES)[i % 5] for i in range(50)]
    dice.shuffle(phases)
    for number, phase in enumerate(phases):
        before = _found_weights(root)
        target = "old" if before == "new" else "new"
        if phase == "download":
            data = {"old": OLD, "new": NEW}[target]
            report = _killed_by_the_server(worker, server, root, data, dice)
        else:
            kill = [phase, dice.randint(1, steps[phase])]
            report = worker.run(root, official=archives[target], watch=True, kill=kill)
        killed[phase] += report["exit"] == ["-9"]
        assert _found_weights(root) in ({before} if phase == "download" else {before, target})
        again = dice.choice(["old", "new"])
        assert "done" in worker.run(root, official=archives[again]), number
        assert _found_weights(root) == again
        assert _leftovers(root) == []
    print(f"killed in: {dict(killed)}")
    assert killed == {"download": 10, **dict.fromkeys(PHASES, 10)}


def _killed_by_the_server(
    worker: Worker, server: Loopback, root: Path, data: bytes, dice: random.Random
) -> dict[str, list[str]]:
    """Let the server kill its client when a random part, not all, of the archive has been sent."""
    pids: queue.Queue[int] = queue.Queue()
    last, delay = dice.randrange(18), dice.random() * 0.01

    def strike(piece: int) -> None:
        if piece == last:
            threading.Event().wait(delay)
            os.kill(pids.get(timeout=30), signal.SIGKILL)

    # An address of its own, so that the installed model is out of date each time.
    url = server.serve(f"{dice.random()}.zip", trickled(data, 20, 0.001, strike))
    pids.put(worker.start(root, official=url))
    return worker.finish()


@forks
def test_a_reader_finds_a_model_at_every_instant_of_many_updates(
    worker: Worker, root: Path, archives: dict[str, str]
) -> None:
    worker.run(root, official=archives["old"])
    stop = threading.Event()
    looks: Counter[bool] = Counter()

    def look() -> None:
        while not stop.is_set():
            looks[_found(root) is not None] += 1

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(30):
            worker.run(root, official=archives["old" if number % 2 else "new"])
    finally:
        stop.set()
        reader.join()
    assert looks[True] > 100
    assert looks[False] == 0


def test_what_is_being_removed_is_not_found_any_more(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(make_release("r1", str(write_zip(tmp_path / "old.zip", OLD))), root)
    monkeypatch.setattr("sct_rootlets_task.models.install._remove", lambda path: None)
    _install(make_release("r1", str(write_zip(tmp_path / "new.zip", NEW))), root)
    shutil.rmtree(root / SLOT)
    assert _leftovers(root) != []
    assert _found(root) is None


def test_log_says_that_a_killed_swap_is_put_back(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = make_release("r1", str(write_zip(tmp_path / "old.zip", OLD)))
    _install(old, root)
    (root / SLOT).rename(root / ".installing" / SLOT / "previous-x")
    assert _found_weights(root) == "old"
    with caplog.at_level(logging.WARNING), pytest.raises(DownloadError):
        _install(make_release("r1", str(tmp_path / "none.zip")), root)
    assert "Putting back model_fake_r1" in caplog.text
    assert (root / SLOT / "source.json").is_file()
    assert _found_weights(root) == "old"


LEFT = [(name, 3) for name in ("incoming-x", "trash-x", ".incoming-x", "previous-x")]


@pytest.mark.parametrize(("name", "depth"), [*LEFT, ("incoming-x", 1200), ("previous-x", 1200)])
def test_leftovers_are_removed_however_deep(
    name: str, depth: int, root: Path, tmp_path: Path
) -> None:
    release = make_release("r1", str(write_zip(tmp_path / "m.zip", NEW)))
    work = root / ".installing" / SLOT
    with deep_folder(work, depth) as deep:
        deep.rename(work / name)
        _install(release, root)
        assert _leftovers(root) == []
    assert _found_weights(root) == "new"


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no read-only mode")
@pytest.mark.parametrize("mode", [0o000, 0o400, 0o500, 0o100])
def test_leftovers_are_removed_whatever_their_modes(mode: int, closed_root: Path) -> None:
    zip_path = write_zip(closed_root.parent / "m.zip", NEW)
    work = closed_root / ".installing" / SLOT
    for path in (work / "incoming-x" / "a" / "b", work / "trash-y" / "c"):
        path.mkdir(parents=True)
        (path / "file").write_text("")
        for folder in (path, path.parent):
            folder.chmod(mode)
    for path in (closed_root.parent, closed_root, closed_root / ".installing", work):
        path.chmod(0o777)
        if os.geteuid() == 0:
            shutil.chown(path, 65534)
    if os.geteuid() == 0:
        for path in work.rglob("*"):
            shutil.chown(path, 65534)
    with unprivileged():
        _install(make_release("r1", str(zip_path)), closed_root)
        assert _leftovers(closed_root) == []


def test_leftovers_that_are_links_go_and_what_they_lead_to_stays(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "kept" / "folder").mkdir(parents=True)
    (tmp_path / "kept" / "file").write_text("kept")
    work = root / ".installing" / SLOT
    (work / "incoming-x").mkdir(parents=True)
    (work / "incoming-x" / "link").symlink_to(tmp_path / "kept")
    (work / "trash-y").symlink_to(tmp_path / "kept")
    os.link(tmp_path / "kept" / "file", work / "incoming-x" / "hard")
    _install(make_release("r1", str(write_zip(tmp_path / "m.zip", NEW))), root)
    assert _leftovers(root) == []
    assert (tmp_path / "kept" / "file").read_text() == "kept"
    assert (tmp_path / "kept" / "folder").is_dir()


def test_a_deep_archive_is_refused_and_the_next_one_installed(root: Path, tmp_path: Path) -> None:
    members = {f"{TRAINER}/{name}": data for name, data in model_files().items()}
    deep = pack(members | {f"{TRAINER}/" + "a/" * 1900 + "x": b""})
    assert len(deep) < 20_000
    release = make_release("r1", str(write_zip(tmp_path / "m.zip", NEW)))
    with pytest.raises(ArchiveError, match="at most 16 folders"):
        _install(release, root, urls=[str(write_zip(tmp_path / "deep.zip", deep))])
    assert _leftovers(root) == []
    _install(release, root)
    assert _found_weights(root) == "new"


@pytest.mark.parametrize(
    "which", [".installing", f".installing/{SLOT}", f".installing/{SLOT}/lock"]
)
def test_a_planted_link_in_the_installer_s_folder_is_not_followed(
    which: str, root: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    link = root / which
    link.parent.mkdir(parents=True)
    if which.endswith("lock"):
        target.write_text("precious")
    else:
        target.mkdir()
    link.symlink_to(target)
    with pytest.raises(InstallError, match="found a link"):
        _install(make_release("r1", str(write_zip(tmp_path / "m.zip", NEW))), root)
    if which.endswith("lock"):
        assert target.read_text() == "precious"
    else:
        assert list(target.iterdir()) == []


@pytest.mark.parametrize("place", ["", f"{TRAINER}/", "Dataset037_x/", f"Dataset037_x/{TRAINER}/"])
def test_a_record_inside_the_archive_does_not_spoil_the_installer_s(
    place: str, root: Path, tmp_path: Path
) -> None:
    layout = "wrapped" if place.startswith("Dataset") else "trainer"
    record = {"files": {"none": "0" * 64}, "model_urls": "https://x", "custom": True}
    data = model_zip("new", layout, {f"{place}source.json": json.dumps(record).encode()})
    url = str(write_zip(tmp_path / "m.zip", data))
    model = _install(make_release("r1", url), root)
    assert (model.urls, model.custom) == ((url,), False)
    assert verify(model.path) == verify(model.path.parent) == []


def test_an_installed_model_packed_again_installs(root: Path, tmp_path: Path) -> None:
    model = _install(make_release("r1", str(write_zip(tmp_path / "m.zip", NEW))), root)
    again = shutil.make_archive(str(tmp_path / "again"), "zip", model.path.parent)
    for base in (model.path.parent.parent, model.path.parent):
        again = shutil.make_archive(
            str(tmp_path / "again"), "zip", base, SLOT if base == root else None
        )
        model = _install(make_release("r1"), root, urls=[again])
        assert model.urls == (again,)
        assert _found_weights(root) == "new"


@pytest.mark.parametrize("url", ["/dev/zero", "/dev/full", "/dev/stdin", "PIPE", "SOCKET", "/tmp"])
def test_a_source_without_end_is_refused_at_once(url: str, root: Path, tmp_path: Path) -> None:
    if url == "PIPE":
        url = str(tmp_path / "pipe")
        os.mkfifo(url)
    elif url == "SOCKET":
        url = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(url)
    for each in (url, f"file://{url}"):
        with pytest.raises(DownloadError, match=r"cannot be read|folder"):
            _install(make_release("r1"), root, urls=[each])
        with pytest.raises(InstallError, match="Cannot read the archive"):
            install_zip(make_task(make_release("r1")), Path(url), root)
    assert _found(root) is None


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no closed mode")
@pytest.mark.parametrize("closed", [".installing", f".installing/{SLOT}"])
def test_a_model_is_found_where_the_installer_s_folder_is_closed(
    closed: str, closed_root: Path
) -> None:
    write_model(closed_root / SLOT)
    (closed_root / ".installing" / SLOT).mkdir(parents=True)
    closed_root.parent.chmod(0o755)
    task = make_task(make_release("r1"))
    try:
        (closed_root / closed).chmod(0)
        with unprivileged():
            found = find_installed(task, task.release(), closed_root)
            listed = list_models({"t": task}, closed_root)
        assert found is not None
        assert [entry.model for entry in listed] == [found]
    finally:
        (closed_root / closed).chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no closed mode")
@pytest.mark.parametrize("closed", [".installing", f".installing/{SLOT}"])
def test_an_installed_model_is_kept_where_the_installer_s_folder_is_closed(
    closed: str, server: Loopback, closed_root: Path
) -> None:
    release = make_release("r1", server.serve("m.zip", whole(NEW)))
    _install(release, closed_root)
    _close(closed_root)
    (closed_root / closed).chmod(0)
    try:
        with unprivileged():
            assert _install(release, closed_root).name == "r1"
    finally:
        (closed_root / closed).chmod(0o755)


def test_thousands_of_small_files_do_not_cost_a_sync_each(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def counted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    large = os.urandom(1 << 17)
    extra = {f"{TRAINER}/{number}.txt": b"1" for number in range(500)}
    extra[f"{TRAINER}/fold_0/checkpoint_final.pth"] = large
    archive = write_zip(tmp_path / "m.zip", model_zip(extra=extra))
    install_zip(make_task(make_release("r1")), archive, root)
    assert len(synced) < 10
    assert len(large) in synced, "weights"
    plans = model_files()["plans.json"]
    assert len(plans) in synced, "plans"
