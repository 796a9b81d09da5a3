"""Sliding-window inference around an engine: preprocess, run the tiles that matter, export.

The labels are those of nnU-Net on all tiles. Only tiles that can change a label are run. Logits are
kept, and interpolated to the image's grid, only where a label can be.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.inference.failures import broken_logits
from sct_rootlets_task.inference.model_folder import ModelFolder
from sct_rootlets_task.inference.openvino_engine import Engine
from sct_rootlets_task.inference.preprocessing import Prepared, prepare, read_preprocessing
from sct_rootlets_task.inference.resampling import Resize, linear_taps, resample_nearest
from sct_rootlets_task.inference.tile_schedule import Schedule, TileGrid, gaussian
from sct_rootlets_task.io.progress import Progress
from sct_rootlets_task.rootlets.components import voxels_of

logger = logging.getLogger(__name__)

CLEAR = 4.0
"""Background margin (logits) beyond which rounding cannot change the class."""
HELD_BYTES = 2**25
"""Size of the kept logits beyond which those that cannot matter are dropped."""

_MOST_LOGIT = float(np.finfo(np.float16).max)


class TiledNetwork:
    """A model that segments volumes with one engine a fold, whose logits are averaged.

    With `progress` it shows how many of the tiles are run.
    """

    def __init__(
        self, folder: ModelFolder, engines: Sequence[Engine], *, progress: bool = False
    ) -> None:
        self.folder = folder
        self.engines = tuple(engines)
        self.device = self.engines[0].device
        self.engine = self.engines[0].name
        self.precision = self.engines[0].precision
        self._preprocessing = read_preprocessing(folder)
        self._weights = gaussian(self._preprocessing.patch)
        self._progress = progress
        self.tiles_run: tuple[int, int] = (0, 0)
        self.tile_seconds = 0.0

    def predict(
        self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the class of each voxel, as :class:`.loading.Network` says.

        Tiles that cannot change a label in `roi_mask` are left out.
        """
        try:
            with np.errstate(over="raise"):
                return self._predict(volume, spacing, roi_mask)
        except FloatingPointError:
            raise broken_logits(self.folder.path) from None

    def _predict(
        self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None
    ) -> np.ndarray:
        self.tile_seconds = 0.0
        prepared = prepare(volume, spacing, self._preprocessing)
        data, offset = _padded(prepared.data, self._preprocessing.patch)
        grid = TileGrid(data.shape, self._preprocessing.patch)
        if roi_mask is None:
            box, logits = _slices((0, 0, 0), data.shape), self._average(data, grid)
        else:
            voxels = voxels_of(self._on_network_grid(roi_mask, prepared)).astype(np.int32)
            if not len(voxels):
                self.tiles_run = (0, len(grid.tiles()))
                return np.zeros(volume.shape, dtype=np.uint8)
            box, logits = self._average_in_roi(data, grid, voxels + offset.astype(np.int32))
        logger.debug("%d of %d tiles were run", *self.tiles_run)
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
        return whole.transpose(np.argsort(self._preprocessing.transpose))

    def _on_network_grid(self, mask: np.ndarray, prepared: Prepared) -> np.ndarray:
        """Return a mask of the volume as one of the prepared data."""
        cropped = mask.transpose(self._preprocessing.transpose)[prepared.box]
        return resample_nearest(cropped, prepared.data.shape)

    def _average(self, data: np.ndarray, grid: TileGrid) -> np.ndarray:
        """Return the folds' mean logits of all tiles (float16, shape (class, z, y, x)).

        nnU-Net adds up in half precision. The same labels need the same rounding.
        """
        tiles, patch = grid.tiles(), self._preprocessing.patch
        self.tiles_run = (len(tiles), len(tiles))
        float_weights = self._weights.astype(np.float32)
        weight = np.zeros(data.shape, dtype=np.float16)
        for tile in tiles:
            weight[_slices(tile, patch)] += self._weights
        sums: list[np.ndarray] = []
        with self._shown(len(tiles)) as progress:
            for number, tile in enumerate(tiles):
                here = _slices(tile, patch)
                part = np.ascontiguousarray(data[here])
                for fold, engine in enumerate(self.engines):
                    logits = self._logits(engine, part)
                    if number == 0:
                        sums.append(np.zeros((len(logits), *data.shape), dtype=np.float16))
                    for channel, values in zip(sums[fold], logits, strict=True):
                        channel[here] = channel[here] + values * float_weights
                progress.update(number + 1)
        return _mean_of_folds(sums, weight)

    def _shown(self, tiles: int) -> Progress:
        # Each tile is in the log for debugging, where a bar would be in the way.
        shown = self._progress and not logger.isEnabledFor(logging.DEBUG)
        return Progress("Tiles", tiles, shown=shown)

    def _logits(self, engine: Engine, part: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        logits = engine.predict(part)
        self.tile_seconds += time.perf_counter() - start
        if not (logits.min() > -_MOST_LOGIT and logits.max() < _MOST_LOGIT):
            raise broken_logits(self.folder.path)
        return logits

    def _average_in_roi(
        self, data: np.ndarray, grid: TileGrid, voxels: np.ndarray
    ) -> tuple[tuple[slice, ...], np.ndarray]:
        """Return the folds' mean logits at voxels (n, 3), of the tiles that matter there.

        Tiles are run in the order of the schedule and added up in nnU-Net's order.

        Returns
        -------
        box : tuple of slice
            Bounding box of the voxels.
        logits : ndarray of float16, shape (class, z, y, x)
            Mean logits in the box where a label may be, and beside it; elsewhere 0 (background).
        """
        tiles = grid.tiles()
        seen, schedule = _Seen(voxels), Schedule(grid, voxels)
        expected = schedule.tiles_left()
        with self._shown(expected) as progress:
            for number in self._needed(data, schedule, seen):
                logger.debug("tile %d of %d was run", number, len(tiles))
                if progress.shown:
                    done, left = len(seen.tiles), schedule.tiles_left()
                    # The forecast only shrinks, unless more tiles are needed for sure.
                    expected = max(min(expected, done + left), done + bool(left))
                    progress.update(done, expected)
        self.tiles_run = (len(seen.tiles), len(tiles))
        low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
        rows = seen.beside_labels()
        mean = seen.mean(rows)
        dense = np.zeros((len(mean), *(high - low)), dtype=np.float16)
        z, y, x = (voxels[rows] - low).T
        dense[:, z, y, x] = mean
        return _slices(low, high - low), dense

    def _needed(self, data: np.ndarray, schedule: Schedule, seen: _Seen) -> Iterator[int]:
        """Run the tiles that matter, keep their logits at the voxels, and yield their numbers."""
        patch, tiles = self._preprocessing.patch, schedule.grid.tiles()
        weights = self._weights.ravel()
        while (number := schedule.next_tile()) is not None:
            rows, places = _inside_tile(seen.voxels, tiles[number], patch)
            tile = _TileLogits(rows, weights[places], [])
            part = np.ascontiguousarray(data[_slices(tiles[number], patch)])
            float_weights = tile.weights.astype(np.float32)
            for engine in self.engines:
                logits = self._logits(engine, part)
                logits = np.take(logits.reshape(len(logits), -1), places, axis=1)
                tile.folds.append(logits * float_weights)
            schedule.record(number, rows, seen.add(number, tile))
            seen.forget(schedule.doubt)
            yield number


class _Seen:
    """The logits of the tiles run so far, at the voxels that matter.

    Parameters
    ----------
    voxels : ndarray of int32, shape (n, 3)
        The voxels (z, y, x) of the grid, in the order of their z.
    """

    def __init__(self, voxels: np.ndarray) -> None:
        self.voxels = voxels
        self.tiles: dict[int, _TileLogits] = {}
        self._low = voxels.min(axis=0)
        self._size = voxels.max(axis=0) + 1 - self._low
        self._forgotten = np.zeros(len(voxels), dtype=bool)
        self._weight = np.zeros(len(voxels), dtype=np.float32)
        self._total = np.zeros((0, len(voxels)), dtype=np.float32)

    def add(self, number: int, tile: _TileLogits) -> np.ndarray:
        """Add a tile, and return by how much the best class is ahead at its voxels, shape (m,)."""
        self.tiles[number] = tile
        if not len(self._total):
            self._total = np.zeros((len(tile.folds[0]), len(self.voxels)), dtype=np.float32)
        for values in tile.folds:
            for channel, more in zip(self._total, values, strict=True):
                channel[tile.rows] += more
        self._weight[tile.rows] += tile.weights.astype(np.float32) * len(tile.folds)
        return _margins(self._total[:, tile.rows]) / self._weight[tile.rows]

    def forget(self, doubt: np.ndarray) -> None:
        """Drop logits that cannot matter any more, once they take :data:`HELD_BYTES`.

        There the background stays ahead by :data:`CLEAR` logits, at the voxel and all around it.

        Parameters
        ----------
        doubt : ndarray of float32, shape (n,)
            Logits by which the tiles that are missing can change the average of each voxel.
        """
        if sum(tile.bytes for tile in self.tiles.values()) < HELD_BYTES:
            return
        doubtful = self._ahead() < (CLEAR + doubt) * self._weight
        kept = self._with_neighbors(doubtful)
        self._forgotten |= ~kept
        for number, tile in self.tiles.items():
            held = kept[tile.rows]
            if not held.all():
                folds = [values[:, held] for values in tile.folds]
                self.tiles[number] = _TileLogits(tile.rows[held], tile.weights[held], folds)

    def beside_labels(self) -> np.ndarray:
        """Return which voxels may get a label, and all of their neighbors (their numbers)."""
        return np.flatnonzero(self._with_neighbors(self._ahead() < CLEAR * self._weight))

    def _ahead(self) -> np.ndarray:
        """Return by how much the background is ahead, in the sums, shape (n,)."""
        best = self._total[1]
        for more in self._total[2:]:
            best = np.maximum(best, more)
        return np.asarray(self._total[0] - best)

    def _with_neighbors(self, chosen: np.ndarray) -> np.ndarray:
        """Return some voxels and those next to them (bool, shape (n,))."""
        z, y, x = (self.voxels - self._low).T
        dense = np.zeros(self._size, dtype=bool)
        dense[z, y, x] = chosen
        for axis in range(3):
            along = np.moveaxis(dense, axis, 0)
            before = along.copy()
            along[1:] |= before[:-1]
            along[:-1] |= before[1:]
        return np.asarray(dense[z, y, x])

    def mean(self, rows: np.ndarray) -> np.ndarray:
        """Return the mean logits (float16, shape (class, m)) of the voxels of some numbers (m,).

        They are added up in nnU-Net's order and precision. Where logits were dropped although they
        mattered after all, the sums in the order of the tiles' runs stand in.
        """
        place = np.full(len(self.voxels), -1)
        place[rows] = np.arange(len(rows))
        weight = np.zeros(len(rows), dtype=np.float16)
        sums: list[np.ndarray] = []
        for _, tile in sorted(self.tiles.items()):
            if not sums:
                sums = [np.zeros((len(v), len(rows)), dtype=np.float16) for v in tile.folds]
            held = np.flatnonzero(place[tile.rows] >= 0)
            here = place[tile.rows[held]]
            weight[here] += tile.weights[held]
            for total, values in zip(sums, tile.folds, strict=True):
                for channel, more in zip(total, values, strict=True):
                    channel[here] = channel[here] + more[held]
        lost = self._forgotten[rows]
        weight[lost] = 1
        mean = _mean_of_folds(sums, weight)
        mean[:, lost] = self._total[:, rows[lost]] / self._weight[rows[lost]]
        return mean


@dataclass(frozen=True)
class _TileLogits:
    """The logits of one tile at the voxels that matter.

    Parameters
    ----------
    rows : ndarray of int32, shape (n,)
        Numbers of the voxels that lie in the tile.
    weights : ndarray of float16, shape (n,)
        The tile's weights there.
    folds : list of ndarray of float32, shape (class, n)
        Weighted logits of each fold.
    """

    rows: np.ndarray
    weights: np.ndarray
    folds: list[np.ndarray]

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return sum(array.nbytes for array in (self.rows, self.weights, *self.folds))


def _inside_tile(
    voxels: np.ndarray, start: Sequence[int], patch: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return which voxels (n, 3), in the order of their z, lie in a tile, and where in it.

    The numbers of the voxels are int32, their places in the flattened tile int, both (m,).
    """
    first, last = np.searchsorted(voxels[:, 0], [start[0], start[0] + patch[0]])
    z, y, x = ((voxels[first:last, axis] - start[axis]).astype(np.intp) for axis in range(3))
    held = np.flatnonzero((y >= 0) & (y < patch[1]) & (x >= 0) & (x < patch[2]))
    places = (z[held] * patch[1] + y[held]) * patch[2] + x[held]
    return (first + held).astype(np.int32), places


def _margins(values: np.ndarray) -> np.ndarray:
    """Return the highest less the second highest of values (class, n), shape (n,)."""
    best, second = np.maximum(*values[:2]), np.minimum(*values[:2])
    for more in values[2:]:
        np.maximum(second, np.minimum(best, more), out=second)
        np.maximum(best, more, out=best)
    return np.asarray(best - second)


def _mean_of_folds(sums: list[np.ndarray], weight: np.ndarray) -> np.ndarray:
    """Return the mean over folds of weighted sums, with nnU-Net's rounding, in the first sum."""
    mean = sums[0]
    mean /= weight
    for total in sums[1:]:
        total /= weight
        mean += total
    if len(sums) > 1:
        mean /= np.float16(len(sums))
    return mean


def _slices(
    start: Sequence[int] | np.ndarray, size: Sequence[int] | np.ndarray
) -> tuple[slice, ...]:
    return tuple(slice(int(s), int(s) + int(n)) for s, n in zip(start, size, strict=True))


def classes_on_grid(logits: np.ndarray, box: Sequence[slice], export: Resize) -> np.ndarray:
    """Return the class of each voxel after linear interpolation of the logits.

    Where background is highest at all grid points that a voxel is interpolated from, it is highest
    at the voxel. So only the few other voxels are computed.

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
    labeled = winners > 0
    for axis, (lower, upper, _) in enumerate(taps):
        labeled = np.take(labeled, lower, axis) | np.take(labeled, upper, axis)
    places = voxels_of(labeled)
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
