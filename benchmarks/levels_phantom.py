"""Measure the errors of levels' ends and heights on phantoms of known truth.

    python -m benchmarks.levels_phantom [--phantoms 20]

For each kind of phantom the table has the worst error of the ends, and mean, standard deviation
(SD) and worst error of the heights. The mean error of the ends is half that of the heights. The
grid falls at random on the anatomy, and the ends of the bundles vary.

A label map shows the end of a level to within a slice. In a straight cord the end is off by up to
half a slice, evenly spread. So no height is known better than to a slice, with an SD of
slice / sqrt(6).
"""

from __future__ import annotations

import argparse

import numpy as np

from sct_rootlets_task.analysis.level_summary import summarize
from sct_rootlets_task.rootlets.bundles import find_bundles
from tools.phantom import make_phantom, typical_bundles

LEVELS = (5, 6, 7)
VOXELS = ((1.0, 0.5, 0.5), (0.5, 1.0, 0.5), (0.8, 0.8, 0.8), (0.6, 0.6, 1.2))
RADII_MM = (0, 150, 80)
SLANTS = ((0.0, 0.0, 0.0), (10.0, 0.0, 0.0), (20.0, 8.0, 0.0))


def errors(
    voxel_mm: tuple[float, float, float],
    radius_mm: int,
    slant: tuple[float, float, float],
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the errors in mm of the levels' ends, shape (n, 2), and of their heights, (n,)."""
    generator = np.random.default_rng(0)
    ends = []
    for _ in range(count):
        phantom = make_phantom(
            typical_bundles(LEVELS, seed=int(generator.integers(2**31))),
            voxel_mm=voxel_mm,
            bend_per_mm=1 / radius_mm if radius_mm else 0.0,
            oblique_degrees=slant,
            phase=tuple(generator.random(3).tolist()),
        )
        bundles = find_bundles(phantom.labels, phantom.affine, cord=phantom.cord)
        top = bundles.line.project(phantom.curve[:1])[0, 0]
        for found in summarize(bundles.items):
            start, end = phantom.extent(found.level)
            ends.append((found.end - top - start, found.start - top - end))
    return np.array(ends), np.diff(ends, axis=1).ravel()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=20)
    options = parser.parse_args(arguments)
    print("| voxel mm | radius mm | slant ° | ends: worst mm | heights: mean | SD | worst mm |")
    print("|---|---|---|---|---|---|---|")
    for voxel_mm in VOXELS:
        for radius_mm in RADII_MM:
            for slant in SLANTS:
                ends, heights = errors(voxel_mm, radius_mm, slant, options.phantoms)
                print(
                    f"| {' × '.join(map(str, voxel_mm))} | {radius_mm or 'straight'} "
                    f"| {slant[0]:.0f}, {slant[1]:.0f} | {np.abs(ends).max():.2f} "
                    f"| {heights.mean():+.2f} | {heights.std():.2f} "
                    f"| {np.abs(heights).max():.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
