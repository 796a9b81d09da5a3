"""Fetching one file from the first of several mirrors that delivers it whole.

The file is streamed to a temporary name beside its destination, measured, hashed, and only then
renamed; nothing half-fetched ever bears the destination's name.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from sct_rootlets_task import __version__, environment
from sct_rootlets_task.errors import DownloadError

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

_OFFLINE = f"not tried, because {environment.OFFLINE} is set"
_CHUNK = 1 << 16
_TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters or more: "C:" is a drive


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
class Patience:
    """How long to try before giving up.

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
    """

    attempts: int = 3
    pause: float = 1.0
    connect: float = 15.0
    stall: float = 60.0
    lock: float = 3600.0


class _MirrorFailedError(Exception):
    """One mirror did not deliver; a transient failure is worth another attempt."""

    def __init__(self, reason: str, *, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient


def is_offline(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether ``SCT_ROOTLETS_OFFLINE`` forbids any use of the network.

    Examples
    --------
    >>> is_offline({"SCT_ROOTLETS_OFFLINE": "1"}), is_offline({"SCT_ROOTLETS_OFFLINE": "0"})
    (True, False)
    """
    said = environment.read(environment.OFFLINE, environ)
    return bool(said) and not environment.denies(environment.OFFLINE, environ)


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
    return re.sub(r"([A-Za-z][A-Za-z0-9+.-]+://)[^/?#\s]*@", r"\1", url)


def fetch(
    urls: Sequence[str],
    destination: Path,
    *,
    sha256: str | None = None,
    accept: Callable[[Path], str | None] | None = None,
    progress: bool | None = None,
    patience: Patience | None = None,
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
    progress : bool, optional
        Show a progress bar on stderr; by default only when stderr is a terminal.
    patience : Patience, optional
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
    job = _Job(part, sha256, accept, progress, patience or Patience())
    reasons = []
    try:
        for url in urls:
            try:
                fetched = _from_mirror(url, job)
            except _MirrorFailedError as failure:
                reasons.append(without_password(f"{url}: {failure}"))
                logger.info("Could not fetch %s", reasons[-1])
            else:
                part.replace(destination)
                return fetched
    finally:
        part.unlink(missing_ok=True)
    raise DownloadError(_nothing_delivered(reasons))


def refuse_if_offline(urls: Sequence[str]) -> None:
    """Fail at once when the network may not be used and no mirror is a file of this machine.

    Raises
    ------
    DownloadError
        If ``SCT_ROOTLETS_OFFLINE`` is set and every mirror is remote.
    """
    if is_offline() and all(map(is_remote, urls)):
        raise DownloadError(
            _nothing_delivered([f"{without_password(u)}: {_OFFLINE}" for u in urls])
        )


@dataclass(frozen=True)
class _Job:
    """What stays the same from mirror to mirror."""

    part: Path
    sha256: str | None
    accept: Callable[[Path], str | None] | None
    progress: bool | None
    patience: Patience


def _nothing_delivered(reasons: Sequence[str]) -> str:
    if not reasons:
        return "Expected at least one URL or path to fetch from, found none."
    tried = "".join(f"\n  - {reason}" for reason in reasons)
    mirrors = "its only source" if len(reasons) == 1 else f"any of {len(reasons)} mirrors"
    return f"The archive could not be fetched from {mirrors}:{tried}"


def _from_mirror(url: str, job: _Job) -> Fetched:
    if not is_remote(url):
        return _checked(_copy_local(url, job), job)
    _check_remote(url)
    for attempt in range(1, job.patience.attempts + 1):
        try:
            return _checked(_stream(url, job), job)
        except _MirrorFailedError as failure:
            if not failure.transient or attempt == job.patience.attempts:
                raise
            wait = job.patience.pause * 2 ** (attempt - 1)
            logger.info("%s: %s; next attempt in %g s", without_password(url), failure, wait)
            time.sleep(wait)
    raise _MirrorFailedError("no attempt was allowed")


def _check_remote(url: str) -> None:
    if _scheme(url) not in ("https", "http"):
        raise _MirrorFailedError("expected https://, http://, file:// or a path to a file")
    if is_offline():
        raise _MirrorFailedError(_OFFLINE)
    if _scheme(url) == "http":
        logger.warning(
            "%s is not encrypted: anyone on the way could alter the archive. "
            "Use https:// where the server offers it.",
            without_password(url),
        )


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
        return Path(url).expanduser().absolute()
    from urllib.request import url2pathname

    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"expected file:///path, found a file of the machine {parts.netloc!r}")
    return Path(url2pathname(parts.path))


def _copy_local(url: str, job: _Job) -> Fetched:
    try:
        source = local_path(url)
        if source.is_dir():
            raise _MirrorFailedError("this is a folder, not an archive")
        stream = source.open("rb")
    except FileNotFoundError:
        raise _MirrorFailedError("there is no such file") from None
    except (OSError, ValueError) as error:
        raise _MirrorFailedError(f"cannot be read: {error}") from error
    with stream:
        total = os.fstat(stream.fileno()).st_size
        chunks = iter(lambda: stream.read(_CHUNK), b"")
        digest, size = _write(chunks, job, total=total, name=source.name)
    return Fetched(str(source), digest, size)


def _stream(url: str, job: _Job) -> Fetched:
    import requests

    try:
        with _open(url, job.patience) as response:
            return _receive(url, response, job)
    except requests.RequestException as error:
        raise _explained(error, job.patience) from error


@contextlib.contextmanager
def _open(url: str, patience: Patience) -> Iterator[requests.Response]:
    import requests

    headers = {
        "User-Agent": f"sct-rootlets-task/{__version__}",
        # A transfer coding would make the size on the wire differ from that of the file.
        "Accept-Encoding": "identity",
    }
    with (
        requests.Session() as session,
        session.get(
            url,
            headers=headers,
            stream=True,
            timeout=(patience.connect, patience.stall),
            hooks={"response": _refuse_downgrade},
        ) as response,
    ):
        yield response


def _refuse_downgrade(response: requests.Response, *_: Any, **__: Any) -> None:
    """Refuse a redirect that leaves the encrypted connection (a hook of requests)."""
    if not response.is_redirect:
        return
    target = urljoin(response.url, response.headers["location"])
    if _scheme(response.url) == "https" and _scheme(target) != "https":
        raise _MirrorFailedError(
            f"redirected from https:// to {without_password(target)}, which is not encrypted"
        )


def _receive(url: str, response: requests.Response, job: _Job) -> Fetched:
    if response.status_code != 200:
        raise _MirrorFailedError(
            f"HTTP {response.status_code} {response.reason or ''}".rstrip(),
            transient=response.status_code in _TRANSIENT_STATUSES,
        )
    header = response.headers.get("Content-Length", "")
    total = int(header) if header.isdigit() else None
    name = urlsplit(url).path.rpartition("/")[2]
    digest, size = _write(response.iter_content(_CHUNK), job, total=total, name=name)
    # requests leaves this to urllib3, whose 1.x takes a closed connection for the end of the file.
    received = response.raw.tell()
    if total is not None and received != total:
        raise _MirrorFailedError(
            f"truncated: expected {total} bytes, received {received}", transient=True
        )
    return Fetched(without_password(url), digest, size)


def _write(chunks: Iterable[bytes], job: _Job, *, total: int | None, name: str) -> tuple[str, int]:
    from tqdm import tqdm

    digest, size = hashlib.sha256(), 0
    disable = None if job.progress is None else not job.progress
    bar = tqdm(total=total, desc=name, unit="B", unit_scale=True, leave=False, disable=disable)
    with job.part.open("wb") as out, bar:
        for chunk in chunks:
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            bar.update(len(chunk))
    return digest.hexdigest(), size


def _explained(error: requests.RequestException, patience: Patience) -> _MirrorFailedError:
    """Return a failure that says in a few words what went wrong, and whether it may pass."""
    from requests import exceptions as known

    if isinstance(error, known.ConnectTimeout):
        return _MirrorFailedError(f"no connection within {patience.connect:g} s", transient=True)
    if isinstance(error, known.ReadTimeout) or "Read timed out" in str(error):
        return _MirrorFailedError(f"stalled: no data for {patience.stall:g} s", transient=True)
    if isinstance(error, known.SSLError):
        return _MirrorFailedError(f"the encrypted connection was refused: {_root(error)}")
    if isinstance(error, known.ProxyError):
        return _MirrorFailedError(f"the proxy did not connect: {_root(error)}", transient=True)
    if isinstance(error, known.ChunkedEncodingError | known.ContentDecodingError):
        return _MirrorFailedError(f"the transfer broke off: {_root(error)}", transient=True)
    if isinstance(error, known.ConnectionError):
        return _MirrorFailedError(f"no connection: {_root(error)}", transient=True)
    return _MirrorFailedError(f"{type(error).__name__}: {_root(error)}")


def _root(error: BaseException) -> str:
    """Return the text of the innermost cause that requests and urllib3 have wrapped."""
    inner = getattr(error, "reason", None) or next(
        (arg for arg in error.args if isinstance(arg, BaseException)), None
    )
    if isinstance(inner, BaseException):
        return _root(inner)
    return " ".join(str(arg) for arg in error.args) or type(error).__name__
