"""Nothing phones home: no name is looked up, no process is started, nothing is left in HOME."""

from __future__ import annotations

import ast
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import sct_rootlets_task

PACKAGE = Path(sct_rootlets_task.__file__).parent
DOOR = PACKAGE / "inference" / "openvino_import.py"
ASKED = ("CI", "TF_BUILD", "JENKINS_URL")
"""Variables by which telemetry takes a machine for one that nobody sits at."""

WATCH = """
import os, sys
WATCHED = {"socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto",
           "subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec",
           "urllib.Request", "_winapi.CreateProcess"}
def watch(event, arguments):
    if event in WATCHED:
        os.write(2, f"SEEN {event} {arguments!r}\\n".encode())
sys.addaudithook(watch)
import multiprocessing.process as process
start = process.BaseProcess.start
def watched_start(self):
    os.write(2, b"SEEN multiprocessing\\n")
    return start(self)
process.BaseProcess.start = watched_start
"""

USES = {
    "the door": """
from sct_rootlets_task.inference.openvino_import import import_openvino
assert import_openvino().Core() is not None
""",
    "a model is loaded": """
from sct_rootlets_task.inference.loading import Options, load_network
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.tasks import BUNDLED
folder = read_model_folder(next((BUNDLED / "locator").glob("nnUNetTrainer*")))
load_network(folder, Options(device="cpu", threads=1))
assert "openvino" in sys.modules
""",
    "the precision is asked for": """
from sct_rootlets_task.inference.openvino_engine import has_native_bf16
assert has_native_bf16() in (True, False)
""",
    "a graph is built": """
from sct_rootlets_task.inference.openvino_engine import read_weights
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.inference.openvino_unet import build_graph, unet_of
from sct_rootlets_task.tasks import BUNDLED
folder = read_model_folder(next((BUNDLED / "locator").glob("nnUNetTrainer*")))
unet, (weights,) = unet_of(folder.architecture), read_weights(folder)
build_graph(unet, weights.arrays, folder.configuration["patch_size"])
""",
    "OpenVINO is looked for, then imported twice": """
import importlib.util
assert importlib.util.find_spec("openvino") is not None
from sct_rootlets_task.inference.openvino_import import import_openvino
assert import_openvino() is import_openvino()
""",
}


def run(code: str, **environ: str | None) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that reports what it watches; None unsets a variable."""
    known = {name: value for name, value in os.environ.items() if name not in ASKED}
    known["PYTHONPATH"] = os.pathsep.join([str(PACKAGE.parent), known.get("PYTHONPATH", "")])
    changed = {**known, **environ}
    return subprocess.run(
        [sys.executable, "-c", WATCH + code],
        env={name: value for name, value in changed.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("offline", ["1", None])
@pytest.mark.parametrize("code", USES.values(), ids=USES)
def test_importing_openvino_sends_nothing_starts_nothing_and_leaves_nothing(
    code: str, offline: str | None, home: Path
) -> None:
    done = run(code, HOME=str(home), LOCALAPPDATA=str(home), SCT_ROOTLETS_OFFLINE=offline)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(home.rglob("*")) == []


LOCAL = re.compile(
    r"SEEN (subprocess\.Popen|os\.posix_spawn) "
    r"\('(/bin/sh', \['/bin/sh', '-c', 'hostname'\]|/sbin/ldconfig', \['/sbin/ldconfig', '-p'\])"
)
"""nnU-Net asks a local command for the machine's name, torch with CUDA one for its libraries."""


@pytest.mark.parametrize("engine", ["openvino", "torch", "nnunet"])
def test_a_prediction_sends_nothing_with_any_engine(engine: str, home: Path) -> None:
    code = f"""
import numpy as np
from sct_rootlets_task.inference.loading import Options, load_network
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.tasks import BUNDLED
folder = read_model_folder(next((BUNDLED / "locator").glob("nnUNetTrainer*")))
load_network(folder, Options(engine={engine!r}, device="cpu", threads=1))
"""
    done = run(code, HOME=str(home), SCT_ROOTLETS_OFFLINE="1", MPLCONFIGDIR=str(home))
    assert done.returncode == 0, done.stderr
    seen = [line for line in done.stderr.splitlines() if line.startswith("SEEN")]
    assert not [line for line in seen if not LOCAL.match(line)]
    assert not list(home.rglob("*telemetry*")) + list(home.rglob("*cid*"))


@pytest.mark.parametrize("where", [None, "/proc", "/no/such/folder", ""])
def test_a_home_that_is_missing_or_closed_is_not_spoken_of(where: str | None) -> None:
    done = run(USES["the door"], HOME=where)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_home_is_left_as_it_is(home: Path) -> None:
    home.chmod(stat.S_IRUSR | stat.S_IXUSR)
    done = run(USES["the door"], HOME=str(home))
    assert (done.returncode, done.stderr) == (0, "")
    assert list(home.iterdir()) == []


def test_a_script_without_a_main_guard_runs_once(home: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing\n"
        "multiprocessing.set_start_method('spawn', force=True)\n"
        "print('started', flush=True)\n"
        "from sct_rootlets_task.inference.openvino_import import import_openvino\n"
        "import_openvino()\n"
        "import threading\n"
        "for other in set(threading.enumerate()) - {threading.current_thread()}:\n"
        "    other.join(5)\n"
    )
    environ = {n: v for n, v in os.environ.items() if n not in ASKED}
    environ |= {"HOME": str(home), "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, str(script)], env=environ, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout.split(), done.stderr) == (["started"], "")


def test_what_a_program_has_imported_itself_stays_its_own(home: Path) -> None:
    code = (
        """
import types
own = sys.modules["openvino_telemetry"] = types.ModuleType("openvino_telemetry")
part = sys.modules["openvino_telemetry.backend"] = types.ModuleType("openvino_telemetry.backend")
"""
        + USES["the door"]
        + """
assert sys.modules["openvino_telemetry"] is own
assert sys.modules["openvino_telemetry.backend"] is part
"""
    )
    done = run(code, HOME=str(home))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_telemetry_s_package_can_be_imported_afterwards(home: Path) -> None:
    code = (
        USES["the door"]
        + """
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
assert not [f for f in sys.meta_path if "sct_rootlets_task" in type(f).__module__]
"""
    )
    done = run(code, HOME=str(home))
    assert (done.returncode, done.stderr) == (0, "")


LAYOUTS = {
    "guarded": """
try:
    import openvino_telemetry as tm
    from openvino_telemetry.backend import backend_ga4
    tm.Telemetry(tid="x", app_name="y").send_event("ov", "import", "general_import")
except ImportError:
    pass
""",
    "not guarded": """
import openvino_telemetry as tm
telemetry = tm.Telemetry(tid="x", app_name="y", backend="ga4")
if hasattr(telemetry, "backend") and telemetry.backend.app_name != "z":
    telemetry.init(tid="x")
telemetry.send_event("ov", "import", "general_import")
""",
    "from a module below": """
from openvino_telemetry.main import Telemetry
import openvino_telemetry.utils.sender
Telemetry().start_session("ovc")
""",
    "none": "",
}
LOUD = "import socket\nclass Telemetry:\n    def __getattr__(self, name): raise SystemExit(name)\n"
LOUD += "    def __init__(self, *a, **k): socket.getaddrinfo('analytics.invalid', 443)\n"


@pytest.mark.parametrize("there", [True, False], ids=["telemetry there", "telemetry missing"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_however_openvino_asks_for_its_telemetry_it_is_silent(
    layout: str, there: bool, home: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    (site / "openvino").mkdir(parents=True)
    (site / "openvino" / "__init__.py").write_text(layout)
    if there:
        for name in ("openvino_telemetry", "openvino_telemetry/backend"):
            (site / name).mkdir()
            (site / name / "__init__.py").write_text(LOUD)
        (site / "openvino_telemetry" / "main.py").write_text(LOUD)
        (site / "openvino_telemetry" / "backend" / "backend_ga4.py").write_text(LOUD)
    code = f"""
sys.path.insert(0, {str(site)!r})
from sct_rootlets_task.inference.openvino_import import import_openvino
assert import_openvino().__file__.startswith({str(site)!r})
"""
    done = run(code, HOME=str(home))
    assert (done.returncode, done.stderr) == (0, "")


def test_an_openvino_that_cannot_be_imported_is_a_missing_dependency(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('half an upgrade')")
    code = f"""
sys.path.insert(0, {str(tmp_path)!r})
from sct_rootlets_task.errors import MissingDependencyError
from sct_rootlets_task.inference.openvino_import import import_openvino
try:
    import_openvino()
except MissingDependencyError as error:
    assert "half an upgrade" in str(error)
    assert not [f for f in sys.meta_path if "sct_rootlets_task" in type(f).__module__]
else:
    raise SystemExit("no error")
"""
    done = run(code, HOME=str(home))
    assert (done.returncode, done.stderr) == (0, "")


def importers(folder: Path) -> set[Path]:
    """Return the files that import OpenVINO themselves."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name.partition(".")[0] == "openvino" for name in names):
                found.add(path)
    return found


def test_all_of_the_code_takes_the_one_door() -> None:
    assert importers(PACKAGE) == {DOOR}
    for name in ("tests", "benchmarks", "training", "docs"):
        assert importers(PACKAGE.parent / name) == set()


def test_the_watch_sees_a_look_up_a_process_and_a_fork() -> None:
    code = """
import socket, subprocess, multiprocessing
socket.getaddrinfo("127.0.0.1", 80)
subprocess.run([sys.executable, "-c", ""])
multiprocessing.get_context("fork").Process(target=len, args=("",)).start()
"""
    seen = run(code).stderr
    assert all(name in seen for name in ("getaddrinfo", "subprocess.Popen", "multiprocessing"))
