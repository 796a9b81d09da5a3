"""Fetching one file from the first of several mirrors that delivers it whole.

The file is streamed to a temporary name beside its destination, checked, and only then renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin, urlsplit

from sct_rootlets_task import environment
from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.errors import DownloadError
from sct_rootlets_task.io.paths import expand_user
from sct_rootlets_task.io.progress import Progress
from sct_rootlets_task.io.untrusted import open_regular, printable, reason_of

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

_OFFLINE = f"not tried, because {environment.OFFLINE} is set"
_MALFORMED = "malformed: a backslash, a control character, or a space in the name of the host"
_CHUNK = 1 << 16
_TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,30}):")  # two letters or more: "C:" is a drive
_LENGTH = re.compile(r"[0-9]{1,18}")
_QUEUED = 16
_SOCKS = ("socks4", "socks4a", "socks5", "socks5h")
_WAITED = re.compile(r"read timeout=([0-9.]+)")
_CERTIFICATES = re.compile(r"certificate bundle|NO_CERTIFICATE_OR_CRL|\[X509|PermissionError\(13")


@dataclass(frozen=True)
class Fetched:
    """What :func:`fetch` brought.

    Parameters
    ----------
    url : str
        The mirror that delivered, without any password; the absolute path of a local file.
    sha256 : str
        Checksum of the file, in hexadecimal digits.
    size : int
        Size of the file in bytes.
    """

    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class RetryPolicy:
    """How long to try, and how much to take, before giving up.

    Parameters
    ----------
    attempts : int
        Attempts per mirror when a failure may pass by itself.
    pause : float
        Seconds before the second attempt; doubled before each further one.
    connect : float
        Seconds to wait for a connection.
    stall : float
        Seconds without a byte after which a transfer counts as stalled.
    lock : float
        Seconds to wait for another process that is installing the same model.
    window, least : float, int
        Seconds of waiting in which a mirror has to send at least so many bytes. The window is
        never shorter than `connect` and `stall` together, so that these speak first.
    largest : int
        Size in bytes beyond which a file is no model.
    """

    attempts: int = 3
    pause: float = 1.0
    connect: float = 15.0
    stall: float = 60.0
    lock: float = 3600.0
    window: float = 90.0
    least: int = 256 << 10
    largest: int = 10 << 30


class _MirrorFailedError(Exception):
    """One mirror did not deliver; a transient failure is worth another attempt."""

    def __init__(self, reason: str, *, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient


def is_remote(url: str) -> bool:
    """Return whether a mirror is reached over the network (else it is a file of this machine).

    Examples
    --------
    >>> [is_remote(url) for url in ("https://a.org/m.zip", "file:///m.zip", "/data/m.zip")]
    [True, False, False]
    """
    return _scheme(url) not in ("", "file")


def without_password(url: str) -> str:
    """Return a URL, or a text with URLs, without user names and passwords.

    Examples
    --------
    >>> without_password("https://me:secret@host.org/m.zip")
    'https://host.org/m.zip'
    """
    return re.sub(r"([A-Za-z][A-Za-z0-9+.-]{1,30}://)[^/?#\s]*@", r"\1", url)


def _shown(text: object) -> str:
    """Return a URL or a reason for a message: in one line, and without passwords."""
    return printable(without_password(" ".join(str(text).split())), 300)


def fetch(
    urls: Sequence[str],
    destination: Path,
    *,
    sha256: str | None = None,
    accept: Callable[[Path], str | None] | None = None,
    progress: bool = False,
    retry: RetryPolicy | None = None,
) -> Fetched:
    """Fetch a file from the first mirror that delivers it.

    Parameters
    ----------
    urls : sequence of str
        Mirrors in the order to try: ``https://``, ``http://`` (with a warning), ``file://``, or a
        plain path.
    destination : Path
        Where the file goes; its folder must exist. A file of that name is replaced.
    sha256 : str, optional
        Checksum the file must have.
    accept : callable, optional
        Called with the path of the complete file; returns why it is not what was wanted, or None.
    progress : bool
        Show how far it is.
    retry : RetryPolicy, optional
        Time-outs and number of attempts.

    Returns
    -------
    Fetched

    Raises
    ------
    DownloadError
        If no mirror delivered; the message lists each one and why.
    OSError
        If the file cannot be written here (full disk, no permission).
    """
    part = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.part")
    job = _Job(part, sha256, accept, progress, retry or RetryPolicy())
    reasons = []
    try:
        for url in urls:
            try:
                fetched = _from_mirror(url, job)
            except _MirrorFailedError as failure:
                reasons.append(f"{_shown(url)}: {_shown(failure)}")
                logger.debug("Could not fetch %s", reasons[-1])
            else:
                part.replace(destination)
                return fetched
    finally:
        part.unlink(missing_ok=True)
    raise _nothing_delivered(reasons)


def refuse_if_offline(urls: Sequence[str]) -> None:
    """Fail at once when the network may not be used and no mirror is a file of this machine.

    Raises
    ------
    DownloadError
        If ``SCT_ROOTLETS_OFFLINE`` is set and every mirror is remote.
    """
    if environment.is_on(environment.OFFLINE) and all(map(is_remote, urls)):
        raise _nothing_delivered([f"{_shown(u)}: {_OFFLINE}" for u in urls])


@dataclass(frozen=True)
class _Job:
    """What stays the same from mirror to mirror."""

    part: Path
    sha256: str | None
    accept: Callable[[Path], str | None] | None
    progress: bool
    retry: RetryPolicy


def _nothing_delivered(reasons: Sequence[str]) -> DownloadError:
    if not reasons:
        return DownloadError("Expected at least one URL or path to fetch from, found none.")
    tried = "".join(f"\n  - {reason}" for reason in reasons)
    mirrors = "its only source" if len(reasons) == 1 else f"any of {len(reasons)} mirrors"
    return DownloadError(f"The archive could not be fetched from {mirrors}:{tried}", reasons)


def _from_mirror(url: str, job: _Job) -> Fetched:
    if not is_remote(url):
        return _checked(_copy_local(url, job), job)
    _check_remote(url)
    for attempt in range(1, job.retry.attempts + 1):
        try:
            return _checked(_stream(url, job), job)
        except _MirrorFailedError as failure:
            if not failure.transient or attempt == job.retry.attempts:
                raise
            wait = job.retry.pause * 2 ** (attempt - 1)
            logger.debug("%s: %s; next attempt in %g s", _shown(url), _shown(failure), wait)
            time.sleep(wait)
    raise _MirrorFailedError("no attempt was allowed")


def _check_remote(url: str) -> None:
    if _scheme(url) not in ("https", "http"):
        raise _MirrorFailedError("expected https://, http://, file:// or a path to a file")
    if not _is_plain(url):
        raise _MirrorFailedError(_MALFORMED)
    if environment.is_on(environment.OFFLINE):
        raise _MirrorFailedError(_OFFLINE)
    if _scheme(url) == "http":
        logger.warning(
            "%s is not encrypted: anyone on the way could alter the archive. "
            "Use https:// where the server offers it.",
            _shown(url),
        )


def _is_plain(url: str) -> bool:
    r"""Tell whether all who read an address find the same host in it.

    Examples
    --------
    >>> _is_plain("https://a.org/m.zip?x=1"), _is_plain("https://a.org\\@b.org/m.zip")
    (True, False)
    """
    host = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    return url.isprintable() and "\\" not in url and not re.search(r"\s", host)


def _checked(fetched: Fetched, job: _Job) -> Fetched:
    if job.sha256 and fetched.sha256 != job.sha256:
        raise _MirrorFailedError(
            f"wrong checksum: expected SHA-256 {job.sha256}, found {fetched.sha256}"
        )
    objection = job.accept(job.part) if job.accept else None
    if objection:
        raise _MirrorFailedError(objection)
    return fetched


def _scheme(url: str) -> str:
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def local_path(url: str) -> Path:
    """Return the file of this machine that a ``file://`` URL or a plain path names.

    Raises
    ------
    ValueError
        If the URL names another machine.

    Examples
    --------
    >>> local_path("file:///data/my%20model.zip").as_posix()
    '/data/my model.zip'
    """
    if not _scheme(url):
        return expand_user(url).absolute()
    from urllib.request import url2pathname

    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"expected file:///path, found a file of the machine {parts.netloc!r}")
    return Path(url2pathname(parts.path))


def _copy_local(url: str, job: _Job) -> Fetched:
    try:
        source = local_path(url)
        stream = open_regular(source)
    except FileNotFoundError:
        raise _MirrorFailedError("there is no such file") from None
    except (OSError, RuntimeError, ValueError) as error:  # no such user, a zero byte
        raise _MirrorFailedError(f"cannot be read: {reason_of(error)}") from error
    with stream:
        total = os.fstat(stream.fileno()).st_size
        digest, size = _write(_pieces(stream), job, total=total, name=source.name)
    return Fetched(str(source), digest, size)


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what a local file holds. Some in /proc give errors, or nothing for a while (None)."""
    while True:
        try:
            piece = stream.read(_CHUNK)
        except OSError as error:
            raise _MirrorFailedError(f"cannot be read: {reason_of(error)}") from error
        if piece is None:
            raise _MirrorFailedError("cannot be read: it is no ordinary file")
        if not piece:
            return
        yield piece


def _stream(url: str, job: _Job) -> Fetched:
    source = _received(url, job.retry)
    with contextlib.closing(_in_background(source, job.retry)) as pieces:
        response = next(pieces)
        try:
            return _receive(url, response, pieces, job)
        finally:
            _hang_up(response)


def _received(url: str, retry: RetryPolicy) -> Generator[Any]:
    """Yield the response, then what it brings in pieces of bytes."""
    try:
        with _open(url, retry) as response:
            yield response
            yield from response.iter_content(_CHUNK)
    except _MirrorFailedError:
        raise
    except Exception as error:
        # Malformed addresses and answers bring errors of requests, urllib3, http.client and codecs.
        raise _proxy_failed(url) or _explained(error, retry) from error


def _proxy_failed(url: str) -> _MirrorFailedError | None:
    """Return a failure if the proxy for an address is none; what it is may hold a password."""
    from requests import utils

    try:
        proxy = utils.select_proxy(url, utils.get_environ_proxies(url))
    except ValueError:  # the address is malformed itself
        return None
    if proxy is None:
        return None
    scheme = _proxy_scheme(proxy)
    if scheme not in ("http", "https", *_SOCKS):
        return _MirrorFailedError(
            "the proxy's address is malformed: expected http://[user:password@]host:port, with "
            "special characters of the password as %xx. Correct "
            f"{_scheme(url).upper()}_PROXY or ALL_PROXY"
        )
    if scheme in _SOCKS and importlib.util.find_spec("socks") is None:
        return _MirrorFailedError("a SOCKS proxy needs the package PySocks. Install it with pip")
    return None


def _proxy_scheme(proxy: str) -> str | None:
    """Return the scheme of a proxy's address; None if it is malformed."""
    from urllib3.util import parse_url

    try:
        parts = parse_url(proxy if "://" in proxy else f"http://{proxy}")
        host = (parts.host or "").encode("idna")
    except ValueError:  # labels that are too long are such an error, too
        return None
    return parts.scheme if host else None


def _in_background(source: Generator[Any], retry: RetryPolicy) -> Generator[Any]:
    """Yield what a thread receives, and give up when it brings too little.

    A server that sends a byte now and then can hold back a read for ever.
    """
    pieces: queue.Queue[Any] = queue.Queue(_QUEUED)
    given_up = threading.Event()
    threading.Thread(target=_work, args=(source, pieces, given_up), daemon=True).start()
    try:
        yield from _paced(pieces, retry)
    finally:
        given_up.set()


def _work(source: Generator[Any], pieces: queue.Queue[Any], given_up: threading.Event) -> None:
    def offer(piece: object) -> bool:
        while not given_up.is_set():
            with contextlib.suppress(queue.Full):
                pieces.put(piece, timeout=0.1)
                return True
        return False

    try:
        with contextlib.closing(source):
            if all(map(offer, source)):
                offer(None)
    except Exception as error:
        offer(error)


def _paced(pieces: queue.Queue[Any], retry: RetryPolicy) -> Iterator[Any]:
    """Yield pieces up to None; only time spent waiting counts, not that of a slow disk."""
    window = max(retry.window, retry.connect + retry.stall)
    waited, came = 0.0, 0
    while True:
        start = time.monotonic()
        try:
            piece = pieces.get(timeout=max(window - waited, 0.0))
        except queue.Empty:
            if came < retry.least:
                reason = f"too slow: {came} bytes in {window:g} s, expected {retry.least}"
                raise _MirrorFailedError(reason) from None
            waited, came = 0.0, 0
            continue
        waited += time.monotonic() - start
        if piece is None:
            return
        if isinstance(piece, Exception):
            raise piece
        came += len(piece) if isinstance(piece, bytes) else 0
        yield piece


def _hang_up(response: requests.Response) -> None:
    """Let a thread that still waits for the response go on, and end."""
    with contextlib.suppress(Exception):  # urllib3 before 2.3 cannot; all is received already
        response.raw.shutdown()


@contextlib.contextmanager
def _open(url: str, retry: RetryPolicy) -> Iterator[requests.Response]:
    import requests

    headers = {
        "User-Agent": f"sct-rootlets-task/{VERSION}",
        # A transfer coding would make the size on the wire differ from that of the file.
        "Accept-Encoding": "identity",
    }
    with (
        requests.Session() as session,
        session.get(
            url,
            headers=headers,
            stream=True,
            timeout=(retry.connect, retry.stall),
            hooks={"response": _check_redirect},
        ) as response,
    ):
        yield response


def _check_redirect(response: requests.Response, *_: Any, **__: Any) -> None:
    """Refuse a redirect that leaves the encrypted connection (a hook of requests)."""
    if not response.is_redirect:
        return
    response.raw.close()  # requests would read to its end what comes with the redirect
    target = urljoin(response.url, response.headers["location"])
    if not _is_plain(target):
        raise _MirrorFailedError(f"redirected to an address that is {_MALFORMED}")
    if _scheme(response.url) == "https" and _scheme(target) != "https":
        raise _MirrorFailedError(f"redirected from https:// to {target}, which is not encrypted")


def _receive(url: str, response: requests.Response, pieces: Iterator[bytes], job: _Job) -> Fetched:
    if response.status_code != 200:
        raise _MirrorFailedError(
            f"HTTP {response.status_code} {response.reason or ''}".rstrip(),
            transient=response.status_code in _TRANSIENT_STATUSES,
        )
    header = response.headers.get("Content-Length", "")
    total = int(header) if _LENGTH.fullmatch(header) else None
    name = urlsplit(url).path.rpartition("/")[2]
    digest, size = _write(pieces, job, total=total, name=name)
    # requests leaves this to urllib3, whose 1.x takes a closed connection for the end of the file.
    received = response.raw.tell()
    if total is not None and received != total:
        raise _MirrorFailedError(
            f"truncated: expected {total} bytes, received {received}", transient=True
        )
    return Fetched(without_password(url), digest, size)


def _write(chunks: Iterable[bytes], job: _Job, *, total: int | None, name: str) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    _check_size(total or 0, job.retry.largest)
    job.part.unlink(missing_ok=True)
    progress = Progress(name, total, unit="B", shown=job.progress)
    with job.part.open("xb") as out, progress:
        for chunk in chunks:
            size += len(chunk)
            _check_size(size, job.retry.largest)
            out.write(chunk)
            digest.update(chunk)
            progress.update(size)
    return digest.hexdigest(), size


def _check_size(size: int, largest: int) -> None:
    if size > largest:
        raise _MirrorFailedError(f"too large: expected at most {largest} bytes, found {size}")


def _explained(error: Exception, retry: RetryPolicy) -> _MirrorFailedError:
    """Return a failure that says in a few words what went wrong, and whether it may pass."""
    from requests import exceptions as known

    if isinstance(error, known.ConnectTimeout):
        return _MirrorFailedError(f"no connection within {retry.connect:g} s", transient=True)
    if isinstance(error, known.ReadTimeout) or "Read timed out" in str(error):
        waited = _WAITED.search(str(error))  # less than for data where a proxy does not answer
        seconds = float(waited[1]) if waited else retry.stall
        return _MirrorFailedError(f"stalled: no data for {seconds:g} s", transient=True)
    if _CERTIFICATES.search(str(error)):
        return _MirrorFailedError(
            f"the certificates cannot be read: {_root(error)}. Correct REQUESTS_CA_BUNDLE or "
            "CURL_CA_BUNDLE"
        )
    kinds = {
        known.SSLError: "the encrypted connection was refused",
        known.ProxyError: "the proxy did not connect",
        known.ChunkedEncodingError: "the transfer broke off",
        known.ContentDecodingError: "the transfer broke off",
        known.ConnectionError: "no connection",
    }
    kind = next((kind for kind in kinds if isinstance(error, kind)), None)
    reason = f"{kinds[kind] if kind else type(error).__name__}: {_root(error)}"
    return _MirrorFailedError(reason, transient=kind not in (None, known.SSLError))


def _root(error: BaseException) -> str:
    """Return the text of the innermost cause that requests and urllib3 have wrapped."""
    inner = getattr(error, "reason", None) or next(
        (arg for arg in error.args if isinstance(arg, BaseException)), None
    )
    if isinstance(inner, BaseException):
        return _root(inner)
    return " ".join(str(arg) for arg in error.args) or type(error).__name__
