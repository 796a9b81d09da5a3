"""Switching the plugin on and off in an environment, as far as SCT's own processes.

Each test has an environment of its own with a small SCT and a copy of its launcher, as SCT's
installer makes it: what one process registers, the next one cannot know.
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

from fake_sct import VERSION, write_sct
from sct_rootlets_task import environment
from sct_rootlets_task.cli import sct_rootlets
from sct_rootlets_task.errors import OutputError
from sct_rootlets_task.sct_plugin import activation, compatibility
from volumes import write_image

ROOT = Path(__file__).resolve().parents[1]


class Environment:
    """A Python environment of its own that has our package, what it needs, and a small SCT."""

    def __init__(self, folder: Path, *, form: str = "7", has_sct: bool = True) -> None:
        venv.create(folder / "env", symlinks=os.name != "nt", with_pip=False)
        self.bin = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / "python"
        self.site = Path(self.ask("import sysconfig; print(sysconfig.get_path('purelib'))"))
        self.sct = folder / "sct"
        self.package = write_sct(self.sct, form) if has_sct else None
        borrowed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        lines = [ROOT, *([self.sct] if has_sct else []), *dict.fromkeys(borrowed)]
        (self.site / "a_paths.pth").write_text("\n".join(map(str, lines)) + "\n")
        self.launcher = folder / "bin" / "sct_deepseg"
        self.launcher.parent.mkdir()
        self.launcher.write_text(
            "import sys\nfrom spinalcordtoolbox.compat.launcher import main\nsys.exit(main())\n"
        )

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SCT_DIR")}
        return subprocess.run(
            [str(self.python), *map(str, words)],
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def ask(self, program: str) -> str:
        return self.run("-c", program).stdout.strip()

    def rootlets(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "sct_rootlets_task.cli.sct_rootlets", *words)

    def deepseg(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.run(self.launcher, *words)

    @property
    def line(self) -> Path:
        return self.site / activation.FILE


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


def test_enable_reaches_the_copied_launcher_s_subprocess_and_disable_takes_it_back(
    env: Environment,
) -> None:
    before = env.deepseg("-h").stdout
    assert "rootlets_starter" not in before
    done = env.rootlets("sct", "enable")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(env.line) in done.stdout
    assert "rootlets_starter" in env.deepseg("-h").stdout
    done = env.rootlets("sct", "disable")
    assert (done.returncode, done.stdout) == (0, f"Removed: {env.line}\n")
    assert env.deepseg("-h").stdout == before
    done = env.rootlets("sct", "disable")
    assert (done.returncode, done.stdout) == (0, "It was not enabled in this environment.\n")


def test_a_whole_run_through_the_launcher(env: Environment, tmp_path: Path) -> None:
    assert env.rootlets("sct", "enable").returncode == 0
    image = write_image(tmp_path / "a_T2w.nii.gz")
    done = env.deepseg("rootlets_starter", "-i", image, "-qc", tmp_path / "qc")
    assert done.returncode == 0, done.stderr
    sidecar = json.loads((tmp_path / "a_T2w_rootlets.json").read_text())
    assert sidecar["GeneratedBy"][0]["Name"].startswith("spinalcordtoolbox: sct_deepseg")
    assert sidecar["Model"] == {"Name": "starter", "BuiltIn": True, "Custom": False, "SHA256": None}
    page = json.loads((tmp_path / "qc" / "pages.jsonl").read_text())
    assert (page["layout"], page["seg"]) == ("rootlets", str(tmp_path / "a_T2w_rootlets.nii.gz"))


def test_an_error_of_ours_ends_the_command_with_a_sentence(env: Environment) -> None:
    assert env.rootlets("sct", "enable").returncode == 0
    done = env.deepseg("rootlets", "-install", "-custom-url", "/no/such.zip")
    assert done.returncode == 1
    assert done.stderr.startswith("sct_deepseg: error: -custom-url: there is no file")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("form", ["7", "6"])
def test_status_says_what_there_is_and_ends_with_0_only_when_active(
    tmp_path: Path, form: str
) -> None:
    env = Environment(tmp_path, form=form)
    done = env.rootlets("sct", "status")
    assert done.returncode == 1
    assert "Enabled: no" in done.stdout
    assert "Active inside SCT: no" in done.stdout
    assert env.rootlets("sct", "enable").returncode == 0
    done = env.rootlets("sct", "status")
    assert done.returncode == 0
    for text in (
        f"Enabled: yes, by {env.line}",
        f"Spinal Cord Toolbox: {VERSION[form]} (tested: 6.2, 6.3, 6.4, 6.5, 7.0, "
        f"7.1, 7.2, 7.3, 7.4.dev0) in {env.package}",
        "SCT looks as expected.",
        "Active inside SCT: yes",
    ):
        assert text in done.stdout


def test_without_sct_status_says_so(tmp_path: Path) -> None:
    env = Environment(tmp_path, has_sct=False)
    done = env.rootlets("sct", "status")
    assert done.returncode == 1
    assert "none in this environment" in done.stdout


def test_outside_sct_s_environment_status_says_where_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "python" / "envs" / "venv_sct" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    monkeypatch.setenv("SCT_DIR", str(tmp_path))
    monkeypatch.setattr(compatibility, "find_toolbox", lambda: None)
    assert sct_rootlets.main(["sct", "status"]) == 1
    assert str(python) in capsys.readouterr().out


def test_a_changed_signature_leaves_sct_as_it_is_and_is_named(env: Environment) -> None:
    assert env.rootlets("sct", "enable").returncode == 0
    assert env.package is not None
    inference = env.package / "deepseg" / "inference.py"
    inference.write_text(inference.read_text().replace("threshold", "cutoff"))
    done = env.deepseg("-h")
    assert done.returncode == 0
    assert "rootlets_starter" not in done.stdout
    assert done.stderr.count("WARNING") == 1
    assert "segment_non_ivadomed" in done.stderr
    done = env.rootlets("sct", "status")
    assert done.returncode == 1
    assert "Differs from what is expected: deepseg/inference.py" in done.stdout


def test_an_exception_in_our_registration_is_a_warning_and_sct_runs(env: Environment) -> None:
    assert env.rootlets("sct", "enable").returncode == 0
    models = env.package / "deepseg" / "models.py" if env.package else Path()
    models.write_text(models.read_text() + '\nTASKS["rootlets"].pop("models")\n')
    done = env.run("-c", "from spinalcordtoolbox.deepseg.models import TASKS; print(len(TASKS))")
    assert (done.returncode, done.stdout.strip()) == (0, "2")
    assert done.stderr.count("WARNING: not active inside SCT") == 1


def test_an_sct_that_calls_our_entry_point_needs_no_line(env: Environment) -> None:
    """As the patch in docs/inside_sct.md would have it; with the line as well it is the same."""
    models = env.package / "deepseg" / "models.py" if env.package else Path()
    call = "from sct_rootlets_task.sct_plugin.plugin import register\n"
    models.write_text(f"{models.read_text()}\nimport sys\n{call}register(sys.modules[__name__])\n")
    alone = env.deepseg("rootlets", "-h")
    assert alone.stdout.count("Run by sct_rootlets_task") == 1, alone.stderr
    assert env.rootlets("sct", "enable").returncode == 0
    assert env.deepseg("rootlets", "-h").stdout == alone.stdout


def test_a_line_without_the_package_is_silent(env: Environment) -> None:
    assert env.rootlets("sct", "enable").returncode == 0
    (env.site / "a_paths.pth").write_text(f"{env.sct}\n")
    done = env.run("-c", "print('started')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")


def test_a_broken_package_is_one_warning_at_the_start(env: Environment, tmp_path: Path) -> None:
    assert env.rootlets("sct", "enable").returncode == 0
    broken = tmp_path / "broken" / "sct_rootlets_task"
    (broken / "sct_plugin").mkdir(parents=True)
    (broken / "__init__.py").write_text("")
    (broken / "sct_plugin" / "__init__.py").write_text("raise ValueError('half an upgrade')")
    (env.site / "a_paths.pth").write_text(f"{broken.parent}\n{env.sct}\n")
    done = env.run("-c", "print('started')")
    assert (done.returncode, done.stdout) == (0, "started\n")
    assert done.stderr == ("sct_rootlets_task: WARNING: not active inside SCT: half an upgrade\n")


def test_the_start_of_python_loads_nothing_but_the_hook(env: Environment) -> None:
    """Three small modules are all it costs; docs/inside_sct.md has the time that takes."""
    program = "import sys; print(*sorted(sys.modules))"
    before = set(env.ask(program).split())
    assert env.rootlets("sct", "enable").returncode == 0
    after = set(env.ask(program).split())
    assert after - before == {
        "sct_rootlets_task",
        "sct_rootlets_task.sct_plugin",
        "sct_rootlets_task.sct_plugin.import_hook",
    }


def test_importing_something_else_of_sct_does_not_wake_the_plugin(env: Environment) -> None:
    assert env.rootlets("sct", "enable").returncode == 0
    program = (
        "import sys, spinalcordtoolbox.compat.launcher; "
        "print('sct_rootlets_task.sct_plugin.plugin' in sys.modules)"
    )
    assert env.ask(program) == "False"


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "not there"
    monkeypatch.setattr(activation, "site_folders", lambda: (missing,))
    with pytest.raises(OutputError, match="not there"):
        activation.enable()


def test_the_second_folder_is_taken_when_the_first_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation, "site_folders", lambda: (tmp_path / "closed", tmp_path))
    assert activation.enable() == tmp_path / activation.FILE
    assert activation.enabled_in() == (tmp_path / activation.FILE,)
    assert activation.disable() == (tmp_path / activation.FILE,)
    assert activation.enabled_in() == ()


def test_the_file_is_one_line() -> None:
    assert activation.line().count("\n") == 1
    assert activation.line().startswith("import sys; ")
    assert activation.line().isascii()


def test_beside_sct_our_own_command_hands_over_through_the_real_launcher(env: Environment) -> None:
    done = env.run("-m", "sct_rootlets_task.cli.sct_deepseg", "other", "-h")
    assert done.returncode == 0
    assert "Another task" in done.stdout
    done = env.run("-m", "sct_rootlets_task.cli.sct_deepseg", "other", "-bad")
    assert done.returncode == 2, "the exit code is SCT's"


def test_beside_an_sct_that_cannot_be_loaded_our_command_says_so(env: Environment) -> None:
    assert env.package is not None
    (env.package / "compat" / "launcher.py").write_text("import module_that_is_missing")
    done = env.run("-m", "sct_rootlets_task.cli.sct_deepseg", "other", "-h")
    assert done.returncode == 1
    assert "module_that_is_missing" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (environment.ENGINE, "abacus", "The engine is one of"),
        (environment.DEVICE, "abacus", "The device is one of"),
        (environment.PRECISION, "f1", "The precision is one of"),
        (environment.THREADS, "x", "expects a number of at least 1"),
    ],
)
def test_a_wrong_variable_is_named(
    env: Environment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    said: str,
) -> None:
    assert env.rootlets("sct", "enable").returncode == 0
    monkeypatch.setenv(name, value)
    image = write_image(tmp_path / "a.nii.gz", np.arange(4096.0).reshape(16, 16, 16))
    done = env.deepseg("rootlets_starter", "-i", image)
    assert done.returncode == 1
    assert said in done.stderr
    assert name in done.stderr
