"""SpinePrep 26 runs ``sct_deepseg rootlets`` as a process and looks for its result in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from sct_rootlets_task.io.sample import AFFINE, load_sample

ROOT = Path(__file__).resolve().parents[1]


def test_the_call_of_spineprep_gives_the_result_that_it_finds(tmp_path: Path) -> None:
    """It takes the first image of the folder with ``rootlets`` in its name."""
    command = tmp_path / "bin" / "sct_deepseg"
    command.parent.mkdir()
    module = "sct_rootlets_task.cli.sct_deepseg"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
    command.chmod(0o755)
    image = tmp_path / "work" / "cordref_crop.nii.gz"
    folder = tmp_path / "work" / "rootlets"
    folder.mkdir(parents=True)
    # A part of the sample that holds some levels, so that the network is quick.
    part = load_sample().data[:, :, 60:]
    affine = AFFINE.copy()
    affine[:3, 3] = (AFFINE @ [0, 0, 60, 1])[:3]
    nib.save(nib.Nifti1Image(part, affine), image)
    done = subprocess.run(
        ["sct_deepseg", "rootlets", "-i", str(image), "-o", str(folder / "rootlets.nii.gz")],
        text=True,
        capture_output=True,
        check=False,
        env={
            **os.environ,
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SCT_ROOTLETS_OFFLINE": "1",
            **dict.fromkeys(("OMP_NUM_THREADS", "NUMEXPR_MAX_THREADS", "MKL_NUM_THREADS"), "1"),
        },
    )
    assert done.returncode == 0, done.stderr
    found = [path for path in sorted(folder.glob("*.nii.gz")) if "rootlets" in path.name]
    assert found[0] == folder / "rootlets.nii.gz"
    result = nib.load(found[0])
    assert result.shape == part.shape
    assert np.array_equal(result.affine, affine)
    assert set(np.unique(result.dataobj)) & set(range(2, 10))
