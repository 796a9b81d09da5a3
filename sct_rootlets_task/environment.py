"""The version of the package, and the environment variables it reads: all of them, only here."""

from __future__ import annotations

import os
from collections.abc import Mapping

VERSION = "0.1.0"

MODELS = "SCT_ROOTLETS_MODELS"
CACHE = "SCT_ROOTLETS_CACHE"
SHARED = "SCT_ROOTLETS_SHARED"
OFFLINE = "SCT_ROOTLETS_OFFLINE"
ENGINE = "SCT_ROOTLETS_ENGINE"
DEVICE = "SCT_ROOTLETS_DEVICE"
PRECISION = "SCT_ROOTLETS_PRECISION"
THREADS = "SCT_ROOTLETS_THREADS"
RAW = "SCT_ROOTLETS_RAW"
TILES = "SCT_ROOTLETS_TILES"
CONTAINER = "SCT_ROOTLETS_CONTAINER"
APPTAINER = "APPTAINER_CONTAINER"
SINGULARITY = "SINGULARITY_CONTAINER"
SCT_DIR = "SCT_DIR"
TERMINAL = "TERM"
COLUMNS = "COLUMNS"

_OPENMP = "OMP_NUM_THREADS"
CORES: Mapping[str, str] = {
    _OPENMP: "Read by most numerical programs.",
    "SLURM_CPUS_PER_TASK": "Set by Slurm.",
    "SLURM_CPUS_ON_NODE": "Set by Slurm.",
    "NSLOTS": "Set by Grid Engine.",
    "PBS_NP": "Set by Torque.",
    "PBS_NUM_PPN": "Set by Torque.",
    "NCPUS": "Set by PBS Professional.",
    "LSB_DJOB_NUMPROC": "Set by LSF.",
}
"""Variables that say how many cores a job has, and where they come from."""
_FOLLOWED = (
    f"Limits the CPU threads where neither -threads nor {THREADS} is given. A value that is not a "
    "whole number from 1 is ignored."
)

VARIABLES: Mapping[str, str] = {
    MODELS: (
        "Folder in which models are installed and looked for. -model-dir wins over it. Without "
        "both it is a folder among the user's own data."
    ),
    CACHE: (
        "Folder in which large compiled networks are kept, so that the next run starts sooner. By "
        "default it is a folder among the user's caches. 0, no, off or false: none is kept."
    ),
    SHARED: (
        "By default all users of the computer can read installed models, and only the user who "
        "installed them can change them. 0, no, off or false: the umask decides."
    ),
    OFFLINE: (
        "1: no attempt is made to use the internet; files and folders still work. 0, no, off, "
        "false or nothing: as if it were not set."
    ),
    ENGINE: "Engine to use where -engine is auto (the default), and inside SCT.",
    DEVICE: (
        "Device to use where -device is auto (the default), and inside SCT. There SCT's own "
        "variable SCT_USE_GPU wins over it, and without both the CPU is used."
    ),
    PRECISION: "Arithmetic to use where -precision is auto (the default), and inside SCT.",
    THREADS: "CPU threads to use where -threads is not given, and inside SCT.",
    RAW: (
        "1: the network's own labels are written, as with -raw; also inside SCT. 0, no, off, false "
        "or nothing: as if it were not set."
    ),
    TILES: "Tiles to run (auto or all) where -tiles is not given, and inside SCT.",
    **{name: f"{origin} {_FOLLOWED}" for name, origin in CORES.items()},
    CONTAINER: (
        "Name and tag of the container image that the commands run in. It is written into the "
        "dataset_description.json of a study's results."
    ),
    APPTAINER: f"Set by Apptainer; read where {CONTAINER} is not set.",
    SINGULARITY: f"Set by Singularity; read where {CONTAINER} is not set.",
    SCT_DIR: "Set by SCT's installer. sct_rootlets sct status finds SCT's own environment by it.",
    TERMINAL: "dumb: progress is shown as lines now and then, as in a file, not as a bar.",
    COLUMNS: "Width of the progress bar in characters. Default: the width of the terminal.",
}
"""What each variable does, for the documentation."""

_NO = ("0", "no", "off", "false")
_MOST_DIGITS = 6


def denies(name: str, environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether a variable is set to 0, no, off or false.

    Parameters are those of :func:`read`.
    """
    return read(name, environ).lower() in _NO


def is_on(name: str, environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether a variable is set, and to something else than 0, no, off or false.

    Parameters are those of :func:`read`.
    """
    return bool(read(name, environ)) and not denies(name, environ)


def read(name: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the value of a variable without surrounding blanks, empty when it is not set.

    Parameters
    ----------
    name : str
        One of :data:`VARIABLES`.
    environ : mapping of str to str, optional
        Environment to read; that of the process by default.
    """
    return (os.environ if environ is None else environ).get(name, "").strip()


def read_count(name: str, environ: Mapping[str, str] | None = None) -> int | None:
    """Return the value of a variable as a whole number of at least 1; None if it is no such number.

    Of a list of OpenMP, a number for each depth of nested threads, it is the first.

    Parameters are those of :func:`read`.

    Examples
    --------
    >>> read_count("SLURM_CPUS_PER_TASK", {"SLURM_CPUS_PER_TASK": "4"})
    4
    """
    word = read(name, environ)
    if name == _OPENMP:
        word = word.partition(",")[0].rstrip()
    is_count = word.isascii() and word.isdecimal() and len(word) <= _MOST_DIGITS
    return int(word) or None if is_count else None
