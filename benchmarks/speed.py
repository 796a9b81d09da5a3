"""Time ``sct_deepseg rootlets`` as a whole process, engine against engine.

    python -m benchmarks.speed IMAGE [--repeats 3] [--model starter] [--threads N]

The reference is stock nnU-Net on all tiles (``-engine nnunet -tiles all``). The commands take
turns, so that a busy machine slows all of them alike; medians and ratios to the reference are
printed, with the agreement of the labels beside each time. Peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

COMMANDS = {
    "nnunet, all tiles": ("-engine", "nnunet", "-tiles", "all"),
    "openvino, all tiles": ("-engine", "openvino", "-tiles", "all"),
    "openvino": ("-engine", "openvino"),
}
MAIN = "import sys; from sct_rootlets_task.hosts.standalone import main; sys.exit(main())"


@dataclass
class Runs:
    """What was measured of one command."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    labels: np.ndarray | None = None


def run(image: Path, output: Path, options: tuple[str, ...], runs: Runs) -> None:
    """Run one command and add its figures."""
    words = ["rootlets", "-i", str(image), "-o", str(output), "-raw", "-v", "0", *options]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", MAIN, *words], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: sct_deepseg {' '.join(words)}")
    runs.wall.append(time.perf_counter() - start)
    runs.cpu.append(usage.ru_utime + usage.ru_stime)
    runs.memory.append(usage.ru_maxrss / 2**20)
    runs.labels = np.asarray(nib.load(output).dataobj)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    common = ("-model", arguments.model, "-threads", str(arguments.threads))
    measured = {name: Runs() for name in COMMANDS}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(arguments.repeats):
            for name, options in COMMANDS.items():
                output = Path(scratch) / "out.nii.gz"
                run(arguments.image, output, (*common, *options), measured[name])
    reference = measured[next(iter(COMMANDS))]
    print("| command | wall s | × | CPU s | × | peak GiB | voxels that differ |")
    print("|---|---|---|---|---|---|---|")
    for name, runs in measured.items():
        ratios = [r / own for r, own in zip(reference.wall, runs.wall, strict=True)]
        cpu_ratios = [r / own for r, own in zip(reference.cpu, runs.cpu, strict=True)]
        assert runs.labels is not None
        assert reference.labels is not None
        differing = int(np.count_nonzero(runs.labels != reference.labels))
        labelled = int(np.count_nonzero(reference.labels))
        print(
            f"| {name} | {statistics.median(runs.wall):.1f} | {statistics.median(ratios):.1f} "
            f"| {statistics.median(runs.cpu):.1f} | {statistics.median(cpu_ratios):.1f} "
            f"| {statistics.median(runs.memory):.2f} | {differing} of {labelled} |"
        )


if __name__ == "__main__":
    main()
