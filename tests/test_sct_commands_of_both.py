"""Commands, notices and advice where SCT and this package share an environment."""

from __future__ import annotations

import csv
import importlib.metadata as metadata
import itertools
import os
import re
import stat
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sct_rootlets_task.cli import grammar
from sct_rootlets_task.sct_plugin import activation, advice, import_hook, launchers, notices
from sct_rootlets_task.sct_plugin.compatibility import Toolbox
from test_sct_activation import Environment, env  # noqa: F401 (a fixture)

SCTS = "#!/usr/bin/python\nfrom spinalcordtoolbox.compat.launcher import main\nmain()\n"
OURS = "#!/usr/bin/python\nfrom sct_rootlets_task.cli.console import sct_deepseg\nsct_deepseg()\n"


class Installed:
    """Folders of an SCT with its launchers, and of the environment that both packages share."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin, self.scripts = folder / "sct" / "bin", folder / "env" / "bin"
        self.toolbox = Toolbox(folder / "sct" / "spinalcordtoolbox", "7.9")
        for place in (self.bin, self.scripts):
            place.mkdir(parents=True)
            for name in ("sct_deepseg", "sct_image"):
                (place / name).write_text(SCTS)
                (place / name).chmod(0o755)
        self.info = folder / "env" / "lib" / "x.dist-info"
        self.info.mkdir(parents=True)
        rows = [["../bin/sct_deepseg", "sha256=a", "9"], ["../bin/sct_rootlets", "", ""], ["x", ""]]
        with (self.info / "RECORD").open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)
        (self.info / "METADATA").write_text("")
        points = "[console_scripts]\nsct_deepseg = a:b\nsct_rootlets = a:c\n\n[other]\nx = a:d\n"
        (self.info / "entry_points.txt").write_text(points)
        files = [
            SimpleNamespace(name=name, locate=lambda name=name: self.info / name)
            for name in ("RECORD", "METADATA", "entry_points.txt")
        ]
        monkeypatch.setattr(
            metadata, "distribution", lambda _: SimpleNamespace(files=files, version="1")
        )
        monkeypatch.setattr(launchers.sysconfig, "get_path", lambda _name: str(self.scripts))


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    return Installed(tmp_path, monkeypatch)


@pytest.mark.parametrize("ours_in", [(), ("scripts",), ("bin",), ("scripts", "bin")])
def test_sct_gets_its_command_back_wherever_ours_took_its_place(
    both: Installed, ours_in: tuple[str, ...]
) -> None:
    for place in ours_in:
        (getattr(both, place) / "sct_deepseg").write_text(OURS)
    given = launchers.give_back(both.toolbox)
    assert set(given) == {getattr(both, place) / "sct_deepseg" for place in ours_in}
    for place in (both.scripts, both.bin):
        assert (place / "sct_deepseg").read_text() == SCTS
        assert os.access(place / "sct_deepseg", os.X_OK)
    assert launchers.give_back(both.toolbox) == ()


def test_uninstalling_us_afterwards_leaves_sct_s_command_alone(both: Installed) -> None:
    (both.scripts / "sct_deepseg").write_text(OURS)
    launchers.give_back(both.toolbox)
    text = (both.info / "RECORD").read_text()
    assert "sct_deepseg" not in text
    assert text == "../bin/sct_rootlets,,\nx,\n"
    points = (both.info / "entry_points.txt").read_text()
    assert points == "[console_scripts]\nsct_rootlets = a:c\n\n[other]\nx = a:d\n"


def test_a_command_that_cannot_be_had_back_stays(both: Installed) -> None:
    (both.scripts / "sct_deepseg").write_text(OURS)
    (both.scripts / "sct_image").unlink()
    assert launchers.give_back(both.toolbox) == ()
    assert (both.scripts / "sct_deepseg").read_text() == OURS
    assert "sct_deepseg" in (both.info / "RECORD").read_text()


def test_our_tools_stand_beside_sct_s_and_go_again(both: Installed) -> None:
    path = launchers.put_launcher(both.toolbox)
    assert path == both.bin / "sct_rootlets"
    assert path.stat().st_mode & stat.S_IXUSR
    assert launchers.put_launcher(both.toolbox) == path, "a second time as well"
    assert launchers.remove_launcher(both.toolbox) == path
    assert launchers.remove_launcher(both.toolbox) is None
    assert sorted(file.name for file in both.bin.iterdir()) == ["sct_deepseg", "sct_image"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder"])
def test_a_file_of_somebody_else_is_neither_replaced_nor_removed(
    both: Installed, tmp_path: Path, kind: str
) -> None:
    path, other = both.bin / "sct_rootlets", tmp_path / "other"
    if kind == "file":
        path.write_text("#!/bin/sh\necho mine\n")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(other)
    if kind == "link":
        other.write_text("mine")
    assert launchers.put_launcher(both.toolbox) is None
    assert launchers.remove_launcher(both.toolbox) is None
    assert os.path.lexists(path)


def test_without_sct_s_folder_of_launchers_none_is_made(both: Installed) -> None:
    (both.bin / "sct_deepseg").unlink()
    assert launchers.put_launcher(both.toolbox) is None
    assert not (both.bin / "sct_rootlets").exists()


@pytest.mark.parametrize("odd", ['/a"b/python', "/a$b/python", "/a`b/python", "/a'b/python"])
def test_an_interpreter_that_a_shell_would_misread_gets_no_launcher(
    both: Installed, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    monkeypatch.setattr(sys, "executable", odd)
    assert launchers.put_launcher(both.toolbox) is None


def with_bin(env: Environment) -> Path:  # noqa: F811
    """Give the small SCT the folder of launchers that its installer makes."""
    folder = env.sct / "bin"
    folder.mkdir()
    (folder / "sct_deepseg").write_text(f"#!{env.python}\n" + SCTS.split("\n", 1)[1])
    (folder / "sct_deepseg").chmod(0o755)
    return folder


def test_the_launcher_runs_our_tools_and_tells_the_truth_when_we_are_gone(
    env: Environment,  # noqa: F811
) -> None:
    launcher = with_bin(env) / "sct_rootlets"
    done = env.rootlets("sct", "enable")
    assert f"Written: {launcher}" in done.stdout
    assert env.run(launcher, "--version").returncode == 0
    (env.site / "a_paths.pth").write_text(f"{env.sct}\n")
    gone = env.run(launcher, "sct", "status")
    assert gone.returncode == 1
    assert "installer runs again" in gone.stderr
    assert "sct enable" in gone.stderr
    assert "Traceback" not in gone.stderr
    assert env.run("-c", "print(1)").stderr == "", "and SCT is as it was"


def test_disable_takes_the_launcher_away(env: Environment) -> None:  # noqa: F811
    launcher = with_bin(env) / "sct_rootlets"
    assert env.rootlets("sct", "enable").returncode == 0
    assert f"Removed: {launcher}" in env.rootlets("sct", "disable").stdout
    assert not launcher.exists()


def test_the_line_of_an_earlier_installation_does_not_switch_a_later_one_on(
    env: Environment,  # noqa: F811
) -> None:
    assert env.rootlets("sct", "enable").returncode == 0
    env.line.write_text(
        re.sub(r"hook\.install\(.*?\)", "hook.install('old')", env.line.read_text())
    )
    done = env.deepseg("-h")
    assert done.returncode == 0
    assert "rootlets_starter" not in done.stdout
    assert done.stderr.count("WARNING") == 1
    assert done.stderr.count("\n") == 1
    status = env.rootlets("sct", "status")
    assert status.returncode == 1
    assert "earlier installation" in status.stdout
    assert env.rootlets("sct", "enable").returncode == 0
    assert "rootlets_starter" in env.deepseg("-h").stdout


def test_an_installation_is_known_by_version_and_time(
    both: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = activation.identity()
    os.utime(both.info / "METADATA", (1, 1))
    again = activation.identity()
    other = SimpleNamespace(files=None, version="2")
    monkeypatch.setattr(metadata, "distribution", lambda _: other)
    assert len({first, again, activation.identity()}) == 3


def test_a_warning_comes_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_CACHE", str(tmp_path / "cache"))
    assert [notices.is_due("a"), notices.is_due("a"), notices.is_due("b")] == [
        True,
        False,
        True,
    ]
    yesterday = time.time() - 90_000
    for note in (tmp_path / "cache" / "notices").iterdir():
        os.utime(note, (yesterday, yesterday))
    assert notices.is_due("a")


@pytest.mark.parametrize("cache", ["off", "/dev/null/none", "~nobody-of-this-name/x"])
def test_where_nothing_can_be_noted_every_process_warns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if cache.startswith("~"):
        (tmp_path / cache.split("/")[0]).write_text("")
    monkeypatch.setenv("SCT_ROOTLETS_CACHE", cache)
    assert notices.is_due("a")
    assert notices.is_due("a")


def test_a_changed_sct_is_said_in_one_line_once_a_day(
    env: Environment,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_CACHE", str(tmp_path / "cache"))
    assert env.rootlets("sct", "enable").returncode == 0
    inference = env.sct / "spinalcordtoolbox" / "deepseg" / "inference.py"
    inference.write_text(inference.read_text().replace("threshold", "cutoff"))
    first, second = env.deepseg("-h"), env.deepseg("-h")
    assert first.stderr.count("\n") == 1
    assert len(first.stderr.replace(str(env.python), "")) < 330
    assert first.stderr.rstrip().endswith("sct status")
    assert (second.returncode, second.stderr) == (0, "")


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("short", "short. See"),
        ("a sentence.", "a sentence. See"),
        ("x" * 160, f"{'x' * 160}. See"),
        ("x" * 161, f"{'x' * 160}... See"),
        ("word\n" * 100, "word ... See"),
    ],
)
def test_a_reason_that_is_cut_shows_it(
    capsys: pytest.CaptureFixture[str], reason: str, shown: str
) -> None:
    import_hook.Watcher().warn(reason)
    assert shown in capsys.readouterr().err


def test_a_long_reason_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import_hook.Watcher().warn("a\nb " * 500)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert len(error.replace(sys.executable, "")) < 350


LACKING = ("-engine", "-device", "-precision", "-threads", "-tiles", "-raw", "-model-dir")
VALUES = ("cpu", "cuda", "torch", "nnunet", "all", "f32", "1")
PHRASES = ("Use {}.", "Correct {} or the file.", "({}) helps", "'{}', else nothing", "use {}")


@pytest.mark.parametrize("option", [name for name in LACKING if name != "-model-dir"])
def test_advice_inside_sct_names_variables_that_exist_there(option: str) -> None:
    from sct_rootlets_task.environment import VARIABLES

    for phrase, value in itertools.product(PHRASES, ("", *VALUES)):
        said = advice.as_in_sct(phrase.format(f"{option} {value}".strip()))
        assert not re.search(rf"(?<!\w){option}\b", said)
        assert set(re.findall(r"SCT_ROOTLETS_[A-Z]+", said)) <= set(VARIABLES)


def test_another_folder_of_models_is_not_advised_where_sct_has_its_own(tmp_path: Path) -> None:
    from sct_rootlets_task.inference.trainer_folder import closed_model

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "plans.json").write_text("{}")
    error = PermissionError(13, "Permission denied", str(tmp_path / "model" / "plans.json"))
    said = str(closed_model(tmp_path / "model", error))
    assert "-model-dir" in said
    inside = advice.as_in_sct(said)
    assert "-model-dir" not in inside
    assert "SCT_ROOTLETS_MODELS" not in inside
    assert re.search(r"with 'chmod .+'\.$", inside), inside


def messages() -> list[str]:
    """Return every text in the package that names an option SCT lacks, or one of our commands."""
    import ast

    found = []
    root = Path(advice.__file__).parents[1]
    for path in root.rglob("*.py"):
        if "cli" in path.relative_to(root).parts:
            continue
        tree = ast.parse(path.read_text())
        texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
        found += [t for t in texts if isinstance(t, str) and "\n" not in t and " " in t]
    return [text for text in found if re.search(r"(?<![\w-])-(engine|device|precision)\b", text)]


def test_no_message_of_the_package_keeps_an_option_that_sct_lacks() -> None:
    texts = messages()
    assert len(texts) > 8
    for text in texts:
        said = advice.as_in_sct(text)
        assert not re.search(r"(?<![\w-])-(engine|device|precision)\b", said), said


def test_options_that_sct_has_stay_as_they_are() -> None:
    lacking = {*LACKING, "-engine"}
    for option in grammar.OPTIONS:
        for name in set(option.names) - lacking:
            text = f"Leave {name} out, or give {name} 1."
            assert advice.as_in_sct(text) == text


def test_our_tools_are_named_as_they_can_be_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = "Compare them: 'sct_rootlets check -i SEG -discs DISCS'."
    text = f"{command} The package sct_rootlets_task says so."
    monkeypatch.setenv("PATH", str(tmp_path))
    said = advice.as_in_sct(text)
    assert (
        f"'{sys.executable} -m sct_rootlets_task.cli.sct_rootlets check -i SEG -discs DISCS'"
        in said
    )
    assert "package sct_rootlets_task says" in said
    (tmp_path / "sct_rootlets").write_text("#!/bin/sh\n")
    (tmp_path / "sct_rootlets").chmod(0o755)
    assert advice.as_in_sct(text) == text


def test_the_stock_nnunet_is_never_recommended_inside_sct() -> None:
    said = advice.as_in_sct("Install them with: pip install 'sct-rootlets-task[torch]'")
    assert said == f"Install them with: {sys.executable} -m pip install nnunetv2-neuropoly"
