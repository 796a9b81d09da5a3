"""What a user asks of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BIDS, NEUROPOLY = "bids", "neuropoly"
NAMINGS = (BIDS, NEUROPOLY)


@dataclass(frozen=True)
class Selection:
    """Which images of a data set are wanted.

    Parameters
    ----------
    subjects, sessions : tuple of str
        Labels without ``sub-`` and ``ses-``; empty for all.
    contrasts : tuple of str
        BIDS names of contrasts (``T2w``, ``UNIT1``, ``INV1``, ``INV2``); empty for all of the task.
    filters : mapping of str to mapping
        Content of ``--bids-filter-file``: by contrast, the values that an entity may have.
    only : Path, optional
        List of images (``qc_fail.yml``, ratings, ``failures.tsv``): nothing else is done.
    part : tuple of (int, int), optional
        Number of a part from 1, and how many parts there are. A subject is in one part.
    """

    subjects: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    contrasts: tuple[str, ...] = ()
    filters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    only: Path | None = None
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class Processing:
    """How each image is worked on: whatever shapes a result.

    Parameters
    ----------
    task, model : str
        Task, and release tag, folder or archive as ``-model`` takes it; None for the default.
    model_dir : str, optional
        Folder of the installed models.
    engine, device, precision : str, optional
        As ``sct_deepseg`` takes them.
    test_time_aug, raw, largest, fill_holes : bool
        As ``sct_deepseg`` takes them.
    tiles : {"auto", "all"}, optional
        As ``sct_deepseg`` takes it.
    remove_small : tuple of str
        Words of ``-remove-small``.
    method : {"caudal", "midpoint", "rootlets"}
        How spinal levels are divided.
    qc : bool
        Whether each image gets an entry in the QC report.
    """

    task: str = "rootlets"
    model: str | None = None
    model_dir: str | None = None
    engine: str | None = None
    device: str | None = None
    precision: str | None = None
    test_time_aug: bool = False
    raw: bool = False
    largest: bool = False
    fill_holes: bool = False
    tiles: str | None = None
    remove_small: tuple[str, ...] = ()
    method: str = "caudal"
    qc: bool = True


@dataclass(frozen=True)
class Resources:
    """Who does the work.

    Parameters
    ----------
    workers : int, optional
        Worker processes; by default as many as cores and memory allow.
    threads : int, optional
        CPU threads of each worker.
    memory_mb : int, optional
        Memory for all workers together.
    scheduler : str, optional
        Address of a dask scheduler, which then has the workers.
    """

    workers: int | None = None
    threads: int | None = None
    memory_mb: int | None = None
    scheduler: str | None = None


@dataclass(frozen=True)
class Study:
    """A data set, where its results go, and what is asked for.

    Parameters
    ----------
    bids_dir, out_dir, work_dir : Path
        The data set; the derivatives; what only the next run needs.
    naming : {"bids", "neuropoly"}
        Names of the results: valid BIDS, or the lab habit ``_label-rootlets_dseg``.
    corrected : Path, optional
        Folder of level maps that were corrected by hand; ``OUT_DIR/corrected`` by default.
    retry_failed, force : bool
        Work again on items that failed, or on all.
    """

    bids_dir: Path
    out_dir: Path
    work_dir: Path
    selection: Selection = field(default_factory=Selection)
    processing: Processing = field(default_factory=Processing)
    resources: Resources = field(default_factory=Resources)
    naming: str = BIDS
    corrected: Path | None = None
    retry_failed: bool = False
    force: bool = False
    command: tuple[str, ...] = ()
    """Words of the command, for the provenance."""
