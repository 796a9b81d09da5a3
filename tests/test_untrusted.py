"""Texts, files and folders from outside."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sct_rootlets_task.io import untrusted
from sct_rootlets_task.io.untrusted import (
    is_world_writable,
    open_regular,
    printable,
    why_folder_not_ours,
    why_not_ours,
)

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
STEERING = "\x1b\x07\x08\r\n\t\x7f\x9b\u200e\u202e\u2066\u2028\u2029\ufeff\ud800\U000e0041\x00"


@given(st.text(st.characters() | st.sampled_from(STEERING)))
def test_a_text_shown_steers_no_terminal_and_can_be_written(text: str) -> None:
    shown = printable(text, 50)
    assert shown.isprintable()
    shown.encode()
    assert len(shown) <= 50 * len("\\U000e0041")


@given(st.text(st.characters(categories=["L", "N", "P"]), max_size=50))
def test_a_harmless_text_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("length", [199, 200, 201, 100_000])
def test_a_long_text_is_shown_by_its_ends(length: int) -> None:
    text = "a" * (length - 1) + "z"
    shown = printable(text)
    assert len(shown) <= 200
    assert (shown[0], shown[-1]) == ("a", "z")
    assert (shown == text) is (length <= 200)


def test_an_ordinary_file_is_opened_also_by_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"content")
    link.symlink_to(path)
    for each in (path, link):
        with open_regular(each) as stream:
            assert stream.read() == b"content"
    with open_regular(path, follow=False) as stream:
        assert stream.read() == b"content"


@posix
def test_a_link_is_not_followed_where_it_must_not_be(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="link"):
        open_regular(tmp_path / "link", follow=False)


@posix
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "link to a pipe", "zero", "full"])
def test_what_is_no_ordinary_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path = Path("/dev") / kind
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(OSError, match=r"folder|ordinary|No such device"):
        open_regular(path)
    assert len(list(Path("/dev/fd").iterdir())) == before, "nothing stays open"


def info(mode: int, uid: int, gid: int = 0) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


@posix
@pytest.mark.parametrize("me", [0, 1000])
@pytest.mark.parametrize("owner", [0, 1000, 1001, 65534])
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o775, 0o757, 0o777, 0o620, 0o602, 0o1777])
def test_what_others_own_or_may_write_is_not_ours(
    me: int, owner: int, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: me)
    ours = owner in (me, 0) and not mode & 0o022
    assert (why_not_ours(info(stat.S_IFREG | mode, owner)) is None) is ours


@posix
def test_all_folders_above_count_but_for_sticky_ones(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    for path in (tmp_path, folder.parent, folder):
        path.chmod(0o755)
    assert why_folder_not_ours(folder) is None
    folder.parent.chmod(0o1777)
    assert why_folder_not_ours(folder) is None, "others can neither remove nor rename it"
    folder.parent.chmod(0o777)
    assert str(folder.parent) in str(why_folder_not_ours(folder))
    folder.parent.chmod(0o755)
    folder.chmod(0o1777)
    assert str(folder) in str(why_folder_not_ours(folder)), "others can add to it"


@posix
@pytest.mark.parametrize(
    ("group", "members", "mode", "private"),
    [
        ("me", [], 0o775, True),
        ("me", ["me"], 0o775, True),
        ("me", ["you"], 0o775, False),
        ("staff", [], 0o775, False),
        ("me", [], 0o777, False),
    ],
)
def test_a_group_of_the_user_alone_may_write_to_the_folders_above(
    group: str, members: list[str], mode: int, private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp
    import pwd

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    user = pwd.struct_passwd(("me", "", 1000, 1000, "", "", ""))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: user)
    record = grp.struct_group((group, "", 1000, members))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: record)
    assert untrusted._is_private_group(info(stat.S_IFDIR | mode, 1000, 1000)) is private


@posix
def test_systems_without_user_numbers_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o777)
    assert is_world_writable(tmp_path)
    monkeypatch.delattr(os, "geteuid")
    assert why_not_ours(tmp_path.stat()) is None
    assert why_folder_not_ours(tmp_path) is None
    assert not is_world_writable(tmp_path)


@posix
@pytest.mark.parametrize("path", ["none", "a" * 300, "a\0b"])
def test_what_is_not_there_is_not_open_to_all(path: str, tmp_path: Path) -> None:
    assert not is_world_writable(tmp_path / path)
