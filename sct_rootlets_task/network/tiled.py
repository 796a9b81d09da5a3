"""Inference by nnU-Net's recipe around an engine: prepare, run the tiles that matter, export.

The labels are those of nnU-Net on all tiles; what differs is how they are computed. Only tiles that
can change a label are run, the logits are kept only where tiles were run, and they are interpolated
to the image's own grid only where a label can be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sct_rootlets_task.network.engines import Engine
from sct_rootlets_task.network.model_folder import ModelFolder
from sct_rootlets_task.network.preprocessing import Prepared, prepare, read_recipe
from sct_rootlets_task.network.resampling import Resize, linear_taps
from sct_rootlets_task.network.tiles import Tile, TileGrid, gaussian

logger = logging.getLogger(__name__)

SMALLEST_SHARE = 0.003
"""A tile whose share in the average stays below this wherever a label can be is left out."""

Progress = Callable[[Sequence[Tile]], Iterator[Tile]]


class TiledNetwork:
    """A model that segments volumes with an engine.

    Parameters
    ----------
    folder : ModelFolder
        The model.
    engines : sequence of Engine
        One a fold; their logits are averaged.
    progress : callable, optional
        Wraps the list of tiles of a volume to show how far it is.
    """

    def __init__(
        self, folder: ModelFolder, engines: Sequence[Engine], progress: Progress = iter
    ) -> None:
        self.folder = folder
        self.engines = tuple(engines)
        self.device = self.engines[0].device
        self.engine = self.engines[0].name
        self.precision = self.engines[0].precision
        self._recipe = read_recipe(folder)
        self._weights = gaussian(self._recipe.patch)
        self._progress = progress
        self.tiles_run: tuple[int, int] = (0, 0)

    def predict(
        self, volume: np.ndarray, spacing: Sequence[float], near: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the class of each voxel of a volume.

        Parameters
        ----------
        volume : ndarray of float32, shape (z, y, x)
            Intensities in the model's orientation.
        spacing : sequence of float
            Voxel sizes in mm, in the order (z, y, x).
        near : ndarray of float, shape (n, 3), optional
            Places (z, y, x), in voxels of the volume, that cover all there is to be found; tiles
            that matter at none of them are left out. All tiles are run without it.

        Returns
        -------
        ndarray of uint8, shape (z, y, x)
            Index of the class with the highest mean logit.
        """
        prepared = prepare(volume, spacing, self._recipe)
        data, offset = _padded(prepared.data, self._recipe.patch)
        grid = TileGrid(data.shape, self._recipe.patch)
        places = None if near is None else self._on_network_grid(near, prepared) + offset
        tiles = choose_tiles(grid, places)
        self.tiles_run = (len(tiles), len(grid.tiles()))
        logger.debug("%d of %d tiles are run", *self.tiles_run)
        box, logits = self._average(data, tiles)
        inside = tuple(
            slice(max(b.start - o, 0), min(b.stop - o, n))
            for b, o, n in zip(box, offset, prepared.data.shape, strict=True)
        )
        part = tuple(
            slice(i.start + o - b.start, i.stop + o - b.start)
            for i, o, b in zip(inside, offset, box, strict=True)
        )
        cropped = classes_on_grid(logits[:, part[0], part[1], part[2]], inside, prepared.export)
        whole = np.zeros(prepared.shape, dtype=np.uint8)
        whole[prepared.box] = cropped
        return whole.transpose(np.argsort(self._recipe.transpose))

    def _on_network_grid(self, near: np.ndarray, prepared: Prepared) -> np.ndarray:
        """Return places of the volume as places of the prepared data."""
        turned = near[:, self._recipe.transpose]
        start = np.array([part.start or 0 for part in prepared.box])
        scale = np.array(prepared.export.old_shape) / np.array(prepared.export.new_shape)
        moved = (turned - start + 0.5) * scale - 0.5
        return np.clip(moved, 0, np.array(prepared.data.shape) - 1)

    def _average(
        self, data: np.ndarray, tiles: Sequence[Tile]
    ) -> tuple[tuple[slice, ...], np.ndarray]:
        """Return where tiles were run, and the folds' mean logits there.

        nnU-Net accumulates in half precision, which moves a few voxels between labels; the same
        labels need the same rounding.

        Returns
        -------
        box : tuple of slice
            Smallest box of the grid that holds all tiles.
        logits : ndarray of float16, shape (class, z, y, x)
            Mean logits in the box; 0 where no tile was run.
        """
        patch = self._recipe.patch
        low, high = np.min(tiles, axis=0), np.max(tiles, axis=0) + patch
        places = [_slices(np.array(tile) - low, patch) for tile in tiles]
        weight = np.zeros(high - low, dtype=np.float16)
        for here in places:
            weight[here] += self._weights
        weight[weight == 0] = 1
        mean: np.ndarray | None = None
        for engine in self.engines:
            total = self._sum(engine, data, tiles, places)
            total /= weight
            mean = total if mean is None else np.add(mean, total, out=mean)
        assert mean is not None
        if len(self.engines) > 1:
            mean /= np.float16(len(self.engines))
        return _slices(low, high - low), mean

    def _sum(
        self,
        engine: Engine,
        data: np.ndarray,
        tiles: Sequence[Tile],
        places: Sequence[tuple[slice, ...]],
    ) -> np.ndarray:
        """Return the weighted sum of one fold's logits, float16, shape (class, z, y, x)."""
        shape = np.max([[part.stop for part in here] for here in places], axis=0)
        weights = self._weights.astype(np.float32)
        total: np.ndarray | None = None
        for tile, here in zip(self._progress(tiles), places, strict=True):
            logits = engine.predict(np.ascontiguousarray(data[_slices(tile, self._recipe.patch)]))
            if total is None:
                total = np.zeros((len(logits), *shape), dtype=np.float16)
            for channel, values in zip(total, logits, strict=True):
                channel[here] = channel[here] + values * weights
        assert total is not None
        return total


def _slices(
    start: Sequence[int] | np.ndarray, size: Sequence[int] | np.ndarray
) -> tuple[slice, ...]:
    return tuple(slice(int(s), int(s) + int(n)) for s, n in zip(start, size, strict=True))


def choose_tiles(grid: TileGrid, near: np.ndarray | None) -> list[Tile]:
    """Return the tiles to run, in nnU-Net's order.

    Parameters
    ----------
    grid : TileGrid
        All tiles.
    near : ndarray of float, shape (n, 3), or None
        Places (z, y, x) where labels can be, in voxels of the grid; None for everywhere.
    """
    tiles = grid.tiles()
    if near is None or not len(near):
        return tiles
    largest = grid.shares(near).max(axis=0)
    return [tile for tile, share in zip(tiles, largest, strict=True) if share >= SMALLEST_SHARE]


def classes_on_grid(logits: np.ndarray, box: Sequence[slice], export: Resize) -> np.ndarray:
    """Return the class of each voxel after linear interpolation of the logits.

    A voxel can only get a label when one of the grid points it is interpolated from has one: where
    background has the highest logit at all of them, it has the highest mean too. So only those
    voxels are computed, which are few.

    Parameters
    ----------
    logits : ndarray of float16, shape (class, z, y, x)
        Logits in a box of the network's grid. Voxels that lie between the box and the outside take
        those of the box's edge; all others outside are background.
    box : sequence of slice
        The box.
    export : Resize
        From the network's grid to the wanted one.

    Returns
    -------
    ndarray of uint8, shape ``export.new_shape``
    """
    winners = np.zeros(export.old_shape, dtype=np.uint8)
    winners[tuple(box)] = logits.argmax(axis=0)
    if export.old_shape == export.new_shape:
        return winners
    taps = [linear_taps(export, axis) for axis in range(3)]
    labelled = winners > 0
    for axis, (lower, upper, _) in enumerate(taps):
        labelled = np.take(labelled, lower, axis) | np.take(labelled, upper, axis)
    places = np.argwhere(labelled)
    result = np.zeros(export.new_shape, dtype=np.uint8)
    # nnU-Net keeps the interpolated logits in half precision too.
    interpolated = _interpolated(logits, box, taps, places).astype(np.float16)
    result[tuple(places.T)] = interpolated.argmax(axis=0)
    return result


def _interpolated(
    logits: np.ndarray,
    box: Sequence[slice],
    taps: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    places: np.ndarray,
) -> np.ndarray:
    """Return the logits at places (n, 3) of the new grid, shape (class, n)."""
    total = np.zeros((len(logits), len(places)), dtype=np.float32)
    corners = [
        (
            (np.clip(lower[p] - b.start, 0, n - 1), 1 - share[p]),
            (np.clip(upper[p] - b.start, 0, n - 1), share[p]),
        )
        for (lower, upper, share), p, b, n in zip(
            taps, places.T, box, logits.shape[1:], strict=True
        )
    ]
    for z, z_weight in corners[0]:
        for y, y_weight in corners[1]:
            for x, x_weight in corners[2]:
                total += logits[:, z, y, x] * (z_weight * y_weight * x_weight)
    return total


def _padded(data: np.ndarray, patch: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Pad with zeros to at least the patch; return the array and where the data starts in it."""
    missing = [max(0, wanted - size) for wanted, size in zip(patch, data.shape, strict=True)]
    before = np.array([extra // 2 for extra in missing])
    pads = [(int(a), extra - int(a)) for a, extra in zip(before, missing, strict=True)]
    return (np.pad(data, pads) if any(missing) else data), before
