"""Fetching, against a real server on loopback."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import logging
import os
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partialmethod
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3

from loopback import (
    Behavior,
    Loopback,
    dropped,
    endless,
    redirected,
    stalled,
    status,
    trickled,
    truncated,
    vanishing,
    whole,
)
from sct_rootlets_task import environment
from sct_rootlets_task.errors import DownloadError
from sct_rootlets_task.models import download
from sct_rootlets_task.models.download import (
    RetryPolicy,
    fetch,
    local_path,
    without_password,
)

DATA = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()
HASTY = RetryPolicy(attempts=2, pause=0.0, connect=2.0, stall=0.3)


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as loopback:
        yield loopback


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder / "m.zip"


def _only(target: Path) -> list[str]:
    return [path.name for path in target.parent.iterdir()]


def test_a_file_is_fetched_whole_and_hashed(server: Loopback, target: Path) -> None:
    url = server.serve("m.zip", whole(DATA))
    fetched = fetch([url], target, sha256=DIGEST, retry=HASTY)
    assert (fetched.url, fetched.sha256, fetched.size) == (url, DIGEST, len(DATA))
    assert target.read_bytes() == DATA
    assert _only(target) == ["m.zip"]
    headers = server.requests[0].headers
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("sct-rootlets-task/")


def test_a_file_without_a_stated_length_is_fetched(server: Loopback, target: Path) -> None:
    assert fetch([server.serve("m", whole(DATA, length=False))], target).sha256 == DIGEST


def test_the_first_mirror_that_delivers_is_used(server: Loopback, target: Path) -> None:
    urls = [
        server.serve("gone.zip", status(404)),
        server.serve("good.zip", whole(DATA)),
        server.serve("spare.zip", whole(DATA)),
    ]
    assert fetch(urls, target, retry=HASTY).url == urls[1]
    assert [server.count(f"{name}.zip") for name in ("gone", "good", "spare")] == [1, 1, 0]


BAD = {
    "404": (status(404), "HTTP 404 Not Found", 1),
    "403": (status(403), "HTTP 403", 1),
    "204 without content": (status(204), "HTTP 204", 1),
    "500": (status(500), "HTTP 500", 2),
    "503": (status(503), "HTTP 503", 2),
    "truncated": (truncated(DATA, 1000), r"broke off|truncated", 2),
    "empty though a length is stated": (truncated(DATA, 0), r"broke off|truncated", 2),
    "stall in the middle": (stalled(DATA, 1000), r"stalled: no data for 0\.3 s", 2),
    "stall at once": (stalled(DATA, 0), r"stalled: no data for 0\.3 s", 2),
    "no answer": (dropped, "no connection", 2),
    "wrong checksum": (whole(DATA[::-1]), f"expected SHA-256 {DIGEST}, found ", 1),
    "truncated without a stated length": (truncated(DATA, 9, length=False), "wrong checksum", 1),
    "endless redirects": (redirected("/m.zip"), "TooManyRedirects", 31),
}


@pytest.mark.parametrize(("behavior", "reason", "tries"), BAD.values(), ids=BAD)
def test_a_bad_mirror_is_named_with_its_reason_and_leaves_nothing(
    behavior: Behavior, reason: str, tries: int, server: Loopback, target: Path
) -> None:
    url = server.serve("m.zip", behavior)
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch([url], target, sha256=DIGEST, retry=HASTY)
    assert url in str(caught.value)
    assert server.count("m.zip") == tries
    assert _only(target) == []


@pytest.mark.parametrize(
    "passing",
    [status(503), status(429), truncated(DATA, 1000), stalled(DATA, 5), dropped],
    ids=["503", "429", "truncated", "stalled", "dropped"],
)
def test_a_failure_that_passes_is_tried_again(
    passing: Behavior, server: Loopback, target: Path
) -> None:
    fetch([server.serve("m.zip", passing, whole(DATA))], target, sha256=DIGEST, retry=HASTY)
    assert target.read_bytes() == DATA
    assert server.count("m.zip") == 2


def test_pauses_between_attempts_double(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("sct_rootlets_task.models.download.time.sleep", pauses.append)
    with pytest.raises(DownloadError):
        fetch([server.serve("m", status(503))], target, retry=RetryPolicy(attempts=4, pause=0.5))
    assert pauses == [0.5, 1.0, 2.0]


def test_every_mirror_and_reason_is_listed(server: Loopback, target: Path, tmp_path: Path) -> None:
    gone = server.serve("gone.zip", status(404))
    cut = server.serve("cut.zip", truncated(DATA, 10))
    missing = str(tmp_path / "missing.zip")
    with pytest.raises(DownloadError) as caught:
        fetch([gone, cut, missing, "ftp://host/m.zip"], target, retry=HASTY)
    lines = str(caught.value).splitlines()
    assert "any of 4 mirrors" in lines[0]
    assert [line.split(": ")[0] for line in lines[1:]] == [
        f"  - {source}" for source in (gone, cut, missing, "ftp://host/m.zip")
    ]


def test_a_server_that_goes_away_leaves_the_old_file(server: Loopback, target: Path) -> None:
    target.write_bytes(b"old")
    url = server.serve("m.zip", vanishing(DATA, 1000))
    with pytest.raises(DownloadError, match="no connection"):
        fetch([url], target, retry=HASTY)
    assert target.read_bytes() == b"old"
    assert _only(target) == ["m.zip"]


def test_the_old_file_stays_until_the_new_one_is_complete(server: Loopback, target: Path) -> None:
    target.write_bytes(b"old")
    seen = []
    behavior = trickled(DATA, 4, 0.0, lambda piece: seen.append(target.read_bytes()))
    fetch([server.serve("m.zip", behavior)], target)
    assert seen[:3] == [b"old"] * 3
    assert target.read_bytes() == DATA


def test_what_is_not_accepted_counts_as_a_failed_mirror(server: Loopback, target: Path) -> None:
    login, good = server.serve("login", whole(b"<html>")), server.serve("m.zip", whole(DATA))
    fetched = fetch(
        [login, good], target, accept=lambda p: None if p.read_bytes() == DATA else "a login page"
    )
    assert fetched.url == good
    with pytest.raises(DownloadError, match=r"/login: a login page"):
        fetch([login], target, accept=lambda _: "a login page")


def test_file_urls_and_plain_paths_are_read(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "my model.zip"
    source.write_bytes(DATA)
    monkeypatch.chdir(tmp_path)
    for name in (source.as_uri(), str(source), "my model.zip", f"file://localhost{source}"):
        fetched = fetch([name], target, sha256=DIGEST)
        assert (fetched.url, fetched.size) == (str(source), len(DATA))
        assert target.read_bytes() == DATA


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/no/such/file.zip", "there is no such file"),
        ("file:///no/such/file.zip", "there is no such file"),
        ("file://otherhost/m.zip", "a file of the machine 'otherhost'"),
        ("/", "this is a folder"),
        ("ftp://host/m.zip", "expected https://, http://, file:// or a path"),
        ("http://", "Invalid URL"),
    ],
)
def test_a_source_that_cannot_be_read_is_explained(name: str, reason: str, target: Path) -> None:
    with pytest.raises(DownloadError, match=reason):
        fetch([name], target, retry=HASTY)


def test_no_source_at_all_is_an_error(target: Path) -> None:
    with pytest.raises(DownloadError, match="at least one URL or path"):
        fetch([], target)


def test_offline_refuses_the_network_without_an_attempt(
    server: Loopback, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    url = server.serve("m.zip", whole(DATA))
    with pytest.raises(DownloadError, match=r"m\.zip: not tried, because SCT_ROOTLETS_OFFLINE"):
        fetch([url], target)
    local = tmp_path / "local.zip"
    local.write_bytes(DATA)
    assert fetch([url, str(local)], target).url == str(local)
    assert server.requests == []


@pytest.mark.parametrize(
    ("value", "offline"),
    [("1", True), ("yes", True), ("TRUE", True), ("0", False), ("", False), (" no ", False)],
)
def test_the_offline_variable_is_read_as_people_write_it(value: str, offline: bool) -> None:
    assert environment.is_on("SCT_ROOTLETS_OFFLINE", {"SCT_ROOTLETS_OFFLINE": value}) is offline


def test_plain_http_is_warned_about(
    server: Loopback, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        fetch([server.serve("m.zip", whole(DATA))], target)
    assert "m.zip is not encrypted" in caplog.text


def test_a_redirect_is_followed(server: Loopback, target: Path) -> None:
    url = server.serve("latest", redirected(server.serve("m.zip", whole(DATA))))
    assert fetch([url], target, sha256=DIGEST).url == url


def test_a_redirect_from_https_to_http_is_refused(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = server.serve("m.zip", whole(DATA))
    honest = requests.adapters.HTTPAdapter.send

    def send(adapter: object, request: requests.PreparedRequest, **options: object) -> object:
        if not (request.url or "").startswith("https://"):
            return honest(adapter, request, **options)  # type: ignore[arg-type]
        # Stands for the encrypted connection alone; the redirect takes requests' own way.
        response = requests.Response()
        response.status_code, response.url, response.request = 302, request.url or "", request
        response.headers["Location"] = plain
        response.raw = requests.packages.urllib3.HTTPResponse(body=b"")  # type: ignore[attr-defined]
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    with pytest.raises(DownloadError, match=r"redirected from https:// to http://127"):
        fetch(["https://models.invalid/m.zip"], target, retry=HASTY)
    assert server.requests == []


def test_the_proxy_of_the_environment_is_used(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, server.url(""))
    server._behaviors["http://models.invalid/m.zip"] = (whole(DATA),)
    fetch(["http://models.invalid/m.zip"], target, sha256=DIGEST, retry=HASTY)
    assert [request.path for request in server.requests] == ["http://models.invalid/m.zip"]


def test_passwords_never_reach_messages_or_records(
    server: Loopback, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.serve("m.zip", whole(DATA)).replace("http://", "http://me:s3cret@")
    with caplog.at_level(logging.DEBUG, logger="sct_rootlets_task"):
        assert "s3cret" not in fetch([url], target).url
        with pytest.raises(DownloadError) as caught:
            fetch([url.replace("m.zip", "gone.zip"), "http://me:s3cret@"], target, retry=HASTY)
    assert "s3cret" not in str(caught.value) + caplog.text
    assert server.requests[0].headers["Authorization"].startswith("Basic ")
    assert without_password("https://a@b.org/x@y") == "https://b.org/x@y"


def test_a_full_disk_is_not_blamed_on_the_mirrors(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(self: Path, other: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="No space left") as caught:
        fetch([server.serve("m.zip", whole(DATA))], target)
    assert not isinstance(caught.value, DownloadError)
    assert _only(target) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "progress", "shown"),
    [
        (Terminal, True, r"\rm\.zip: 100%\|#+\| (\S+)/\1 \["),
        (Terminal, False, ""),
        (io.StringIO, True, ""),
        (io.StringIO, False, ""),
    ],
)
def test_the_progress_bar_is_drawn_on_a_terminal_when_asked(
    stream: type[io.StringIO],
    progress: bool,
    shown: str,
    server: Loopback,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stderr = stream()
    monkeypatch.setattr(sys, "stderr", stderr)
    fetch([server.serve("m.zip", whole(DATA))], target, progress=progress)
    drawn = stderr.getvalue()
    assert re.search(shown, drawn) if shown else drawn == ""


def test_a_truncated_file_is_found_out_where_urllib3_does_not(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urlopen = urllib3.HTTPConnectionPool.urlopen
    lenient = partialmethod(urlopen, enforce_content_length=False)  # the default of urllib3 1.x
    monkeypatch.setattr(urllib3.HTTPConnectionPool, "urlopen", lenient)
    with pytest.raises(DownloadError, match="truncated: expected 256000 bytes, received 1000"):
        fetch([server.serve("m.zip", truncated(DATA, 1000))], target, retry=HASTY)


def test_a_local_path_of_windows_is_no_scheme() -> None:
    assert local_path("C:model.zip").name == "C:model.zip"


OK = b"HTTP/1.1 200 OK\r\n"
PLAIN, CHUNKED = OK + b"\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: /other.zip\r\n"
SLOW = {
    "a byte now and then": endless(PLAIN, b"x", 0.05),
    "a byte now and then of a stated length": endless(
        OK + b"Content-Length: 99999\r\n\r\n", b"x", 0.05
    ),
    "small chunks": endless(CHUNKED, b"1\r\nx\r\n", 0.05),
    "a chunk's length without end": endless(CHUNKED, b"0", 0.05),
    "a header now and then": endless(OK, b"X: y\r\n", 0.05),
    "a header without end": endless(OK + b"X: ", b"y", 0.05),
    "a status without end": endless(b"HTTP/1.1 200 ", b"y", 0.05),
    "always about to answer": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "compressed": endless(OK + b"Content-Encoding: gzip\r\n\r\n", b"\x1f", 0.05),
    "a redirect with a slow body": endless(MOVED + b"Content-Length: 99999\r\n\r\n", b"x", 0.05),
}
PATIENT = RetryPolicy(attempts=3, pause=0.0, connect=0.2, stall=0.3, window=0.6, least=1000)


@pytest.mark.parametrize("behavior", SLOW.values(), ids=SLOW)
def test_a_mirror_that_sends_too_slowly_gives_way_to_the_next(
    behavior: Behavior, server: Loopback, target: Path
) -> None:
    urls = [server.serve("slow.zip", behavior), server.serve("m.zip", whole(DATA))]
    assert fetch(urls, target, sha256=DIGEST, retry=PATIENT).url == urls[1]
    assert _only(target) == ["m.zip"]
    assert server.count("slow.zip") == 1, "it would be as slow again"


def test_a_mirror_that_sends_too_slowly_is_named(server: Loopback, target: Path) -> None:
    url = server.serve("slow.zip", SLOW["a byte now and then"])
    with pytest.raises(DownloadError, match=r"too slow: \d+ bytes in 0\.6 s, expected 1000"):
        fetch([url], target, retry=PATIENT)


def test_a_slow_mirror_that_sends_enough_is_borne_with(server: Loopback, target: Path) -> None:
    url = server.serve("m.zip", trickled(DATA, 12, 0.1))
    hasty = replace(PATIENT, window=0.5, least=10_000)
    assert fetch([url], target, sha256=DIGEST, retry=hasty).size == len(DATA)


def test_a_slow_disk_is_not_blamed_on_the_mirror(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.serve("m.zip", whole(DATA))
    monkeypatch.setattr("sct_rootlets_task.models.download._check_size", lambda *_: time.sleep(0.3))
    assert fetch([url], target, retry=PATIENT).sha256 == DIGEST


ENDLESS = {
    "without a length": endless(PLAIN, bytes(1 << 16)),
    "in chunks": endless(CHUNKED, b"10000\r\n" + bytes(1 << 16) + b"\r\n"),
    "of a great length": endless(OK + b"Content-Length: 99999999999\r\n\r\n", b"x", 0.05),
    "compressed": whole(b""),
}
BOMB = gzip.compress(bytes(20 << 20))
ENDLESS["compressed"] = endless(
    OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB, b"", 0.05
)


@pytest.mark.parametrize("behavior", ENDLESS.values(), ids=ENDLESS)
def test_a_mirror_without_end_is_left_at_the_largest_size(
    behavior: Behavior, server: Loopback, target: Path
) -> None:
    urls = [server.serve("huge.zip", behavior), server.serve("m.zip", whole(DATA))]
    small = replace(PATIENT, largest=1 << 20)
    assert fetch(urls, target, sha256=DIGEST, retry=small).url == urls[1]
    with pytest.raises(DownloadError, match="too large: expected at most 1048576 bytes"):
        fetch(urls[:1], target, retry=small)


def test_a_local_file_that_is_too_large_is_refused(target: Path, tmp_path: Path) -> None:
    with (tmp_path / "m.zip").open("wb") as out:
        out.truncate(1 << 40)
    with pytest.raises(DownloadError, match="too large"):
        fetch([str(tmp_path / "m.zip")], target)


@pytest.mark.parametrize("body", [endless(MOVED + b"\r\n", bytes(1 << 16))])
def test_the_body_of_a_redirect_is_not_read(body: Behavior, server: Loopback, target: Path) -> None:
    server.serve("other.zip", whole(DATA))
    assert fetch([server.serve("m.zip", body)], target, retry=PATIENT).sha256 == DIGEST


# urllib3 does not close the connection of an answer whose header it refuses.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "length", ["-5", "text", "", "1e9", "²", "9" * 5000, "5, 6", "0x10", "+5", str(10**25)]
)
def test_a_length_that_is_none_is_one_reason_or_none(
    length: str, server: Loopback, target: Path
) -> None:
    head = f"HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(head + DATA)
        handler.close_connection = True

    urls = [server.serve("odd.zip", behave), server.serve("m.zip", whole(DATA))]
    assert fetch(urls, target, sha256=DIGEST, retry=HASTY).sha256 == DIGEST


ANSWERS = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "no version": b"HTTP/9.9 200 OK\r\n\r\n",
    "no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a negative number": b"HTTP/1.1 -200 OK\r\n\r\n",
    "an endless line": b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n",
    "a long header": OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
    "many headers": OK + b"X: y\r\n" * 200 + b"\r\n",
    "a header of no sense": OK + b"\xff\xfe\x00: \x1b[2J\r\n\r\n",
    "no chunk": CHUNKED + b"zz\r\n",
    "a negative chunk": CHUNKED + b"-5\r\nx",
    "an endless chunk": CHUNKED + b"f" * 70_000,
    "no gzip": OK + b"Content-Encoding: gzip\r\n\r\nno gzip at all",
    "moved to nowhere": b"HTTP/1.1 302 Found\r\nLocation: \r\n\r\n",
    "moved to no address": b"HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\n\r\n",
    "moved to a long label": b"HTTP/1.1 302 Found\r\nLocation: http://%s.invalid/\r\n\r\n"
    % (b"a" * 64),
    "moved to bytes": b"HTTP/1.1 302 Found\r\nLocation: \xff\x1b[2J://\r\n\r\n",
    "moved to a file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    "moved elsewhere": b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/\r\n\r\n",
    "an escape in the reason": b"HTTP/1.1 404 \x1b[2J\x1b]0;x\x07\r\n\r\n",
}


# The libraries leave a socket to the garbage collector when they stumble over an answer.
@pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_malformed_answer_is_one_reason_and_the_next_mirror_is_tried(
    answer: bytes, server: Loopback, target: Path
) -> None:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    urls = [server.serve("odd.zip", behave), server.serve("m.zip", whole(DATA))]
    assert fetch(urls, target, sha256=DIGEST, retry=HASTY).url == urls[1]
    with pytest.raises(DownloadError) as caught:
        fetch(urls[:1], target, sha256=DIGEST, retry=HASTY)
    lines = str(caught.value).split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() and len(line) < 1000 for line in lines)


ADDRESSES = [
    f"http://{'a' * 64}.invalid/m.zip",
    "http://a..b/m.zip",
    "http://[::1/m.zip",
    "http://[::zz]/m.zip",
    "http://127.0.0.1:99999999/m.zip",
    "http://127.0.0.1:-1/m.zip",
    "http://127.0.0.1:x/m.zip",
    "http://127.0.0.1:1\r\nX: y/m.zip",
    "http://user:pass@:80/",
    "http://\x00/",
    "http://\ud800/",
    "http://",
    "http:///m.zip",
    "https:",
    "x" * 5000,
    "a" * 50_000,
    "a+" * 25_000,
    "ftp://host/m.zip",
    "javascript:alert(1)",
    "file://[::1/m.zip",
    "file:///%00",
    "file:///" + "a" * 5000,
    "file://host/m.zip",
    "~nobody-of-this-name/m.zip",
    "a\0b",
    "\ud800",
    "\x1b[2J.zip",
    "",
    "http://127.0.0.1:1\\@example.invalid/m.zip",
    "https:\\\\example.invalid/m.zip",
    "http://example.invalid\\m.zip",
    "http://example.invalid/\x1b[2J",
    "http://example.invalid/\r\nHost: x",
    "http://\u202emoc.elpmaxe/m.zip",
    "http://a b@example.invalid/m.zip",
]


@pytest.mark.parametrize("url", ADDRESSES, ids=lambda url: ascii(url[:30]))
def test_a_malformed_address_is_one_reason_and_the_next_mirror_is_tried(
    url: str, server: Loopback, target: Path
) -> None:
    urls = [url, server.serve("m.zip", whole(DATA))]
    assert fetch(urls, target, sha256=DIGEST, retry=HASTY).url == urls[1]
    with pytest.raises(DownloadError) as caught:
        fetch([url], target, retry=HASTY)
    lines = str(caught.value).split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() and len(line) < 1000 for line in lines)


@pytest.mark.parametrize("kind", ["pipe", "zero", "full", "stdin", "null", "socket"])
@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_what_is_no_ordinary_file_is_refused_at_once(
    kind: str, form: str, target: Path, tmp_path: Path
) -> None:
    path = Path("/dev") / kind
    if kind == "pipe":
        path = tmp_path / "m.zip"
        os.mkfifo(path)
    elif kind == "socket":
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    with pytest.raises(DownloadError, match="cannot be read"):
        fetch([form.format(path)], target, retry=HASTY)
    assert _only(target) == []


def test_a_planted_part_is_not_written_through(
    server: Loopback, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    fixed = uuid.UUID(int=0)
    monkeypatch.setattr("sct_rootlets_task.models.download.uuid.uuid4", lambda: fixed)
    (target.parent / f".m.zip.{fixed.hex}.part").symlink_to(precious)
    fetch([server.serve("m.zip", whole(DATA))], target, retry=HASTY)
    assert precious.read_text() == "precious"
    assert target.read_bytes() == DATA
    assert not target.is_symlink()


@pytest.mark.parametrize(
    "url",
    [
        "http://{}\\@127.0.0.2/m.zip",
        "http://{}\\.example.invalid/m.zip",
        "http://{}/m.zip\x07",
        "http://{}/m.zip\u2028",
        "\x00http://{}/m.zip",
        "http://us er@{}/m.zip",
    ],
)
def test_an_address_that_two_readers_read_differently_is_never_contacted(
    url: str, server: Loopback, target: Path
) -> None:
    host = server.serve("m.zip", whole(DATA)).split("/")[2]
    with pytest.raises(DownloadError) as caught:
        fetch([url.format(host)], target, retry=HASTY)
    assert len(str(caught.value).splitlines()) == 2
    assert server.requests == []


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file of Linux")
def test_a_local_file_that_gives_an_error_is_one_reason(target: Path) -> None:
    with pytest.raises(DownloadError, match="cannot be read"):
        fetch(["/proc/self/mem"], target, retry=HASTY)


@pytest.mark.parametrize("answers", [[None], [b"PK", None], [b"PK", OSError(5, "Input error")]])
def test_a_local_file_that_has_nothing_to_give_is_one_reason(
    answers: list[object], target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.zip"
    path.write_bytes(DATA)

    class Slow(io.FileIO):
        def read(self, size: int | None = -1) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return answer

    monkeypatch.setattr(download, "open_regular", lambda path: Slow(path))
    with pytest.raises(DownloadError, match="cannot be read"):
        fetch([str(path)], target, retry=HASTY)
    assert _only(target) == []


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("bundle", ["missing", "nonsense", "folder", "empty"])
def test_certificates_that_cannot_be_read_are_a_failed_mirror(
    variable: str,
    bundle: str,
    server: Loopback,
    target: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "certificates"
    if bundle == "folder":
        path.mkdir()
    elif bundle != "missing":
        path.write_text("no certificate" if bundle == "nonsense" else "")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(path))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    url = server.url("m.zip").replace("http:", "https:")
    good = tmp_path / "good.zip"
    good.write_bytes(DATA)
    assert fetch([url, str(good)], target, retry=HASTY).url == str(good)
    with pytest.raises(DownloadError) as raised:
        fetch([url], target, retry=HASTY)
    assert len(raised.value.reasons) == 1
    if bundle != "folder":  # in one without certificates nobody is known
        assert variable in str(raised.value)


@pytest.mark.parametrize("proxy", ["http://[", "http://", "ftp://x", "socks5://x:1", "a" * 64])
def test_a_proxy_that_is_none_is_a_failed_mirror(
    proxy: str, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy)
    good = tmp_path / "good.zip"
    good.write_bytes(DATA)
    urls = ["http://models.invalid/m.zip", str(good)]
    assert fetch(urls, target, retry=HASTY).url == str(good)


@pytest.mark.parametrize(
    "proxy",
    [
        *(
            f"{scheme}me:pa{sign}ss@x:1"
            for scheme in ("", "http://", "socks5://")
            for sign in "/#?"
        ),
        *("http://me:pa\\ss@x:1", "ftp://me:pass@x", "http://me:pass@:80"),
        *("http://me:pass@x:99999", "http://me:pass@" + "a" * 64, "http://me:pass@[::1"),
    ],
)
def test_a_malformed_proxy_is_named_by_its_variable_and_keeps_its_password(
    proxy: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(DownloadError, match="HTTPS_PROXY") as raised:
        fetch(["https://models.invalid/m.zip"], target, retry=HASTY)
    assert not re.search(r"me:|pa\W?ss@|\bpa\b", str(raised.value))


def test_a_proxy_without_its_package_is_said_to_need_it(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "socks5h://me:pass@127.0.0.1:1")
    with pytest.raises(DownloadError, match="PySocks"):
        fetch(["https://models.invalid/m.zip"], target, retry=HASTY)


def test_a_proxy_that_hangs_is_said_to_have_been_waited_for_as_long_as_it_was(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        retry = RetryPolicy(attempts=1, connect=0.2, stall=9.0)
        with pytest.raises(DownloadError, match=r"no data for 0\.2 s"):
            fetch(["https://models.invalid/m.zip"], target, retry=retry)


def test_names_that_are_never_resolved_are_given_up(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hang(*_: object, **__: object) -> None:
        released.wait(60)
        raise OSError("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    quick = RetryPolicy(attempts=3, pause=0.0, connect=0.2, stall=0.2, window=0.2)
    start = time.monotonic()
    with pytest.raises(DownloadError, match="too slow: 0 bytes"):
        fetch(["https://models.invalid/m.zip"], target, retry=quick)
    assert time.monotonic() - start < 30
    released.set()
