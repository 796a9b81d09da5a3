"""Winograd convolutions for OpenVINO graphs: half the multiplications along z.

F(4, 3): four neighboring outputs of a filter of three taps take six products, not twelve (Lavin &
Gray 2016, doi:10.1109/CVPR.2016.435). A product is a convolution over (y, x) of a sum of planes.
Only z is treated so: OpenVINO stores plane after plane, and takes and joins planes like a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

TAPS, PHASES = 3, 4
CHUNK_VOXELS = 2**18
"""Most voxels convolved at once: their products stay in the cache of a CPU."""
INPUTS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=np.float32,
)
"""Factors of the planes (one before a group of four to one after it) in each product."""
FILTERS = (
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64)
    / 24
)
"""Factors of the filter's taps in each product."""
OUTPUTS = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=np.float32,
)
"""Factors of the products in each of the four output planes."""
_BIASED = 1
"""A product that each output plane holds once: a bias added to it is added to all."""


class Volume:
    """A tensor (1, channels, z, y, x) of a graph, with its planes in order.

    Four neighboring planes are a *group*, whose plane r is of *phase* r. Some neighboring groups
    are a *chunk*, which is convolved at once.

    Parameters
    ----------
    ops : module
        OpenVINO's operations.
    node : Node
        The tensor.
    """

    def __init__(self, ops: Any, node: Any) -> None:
        self.ops, self._node = ops, node

    @property
    def node(self) -> Any:
        """The tensor, its planes in the order of the volume."""
        return self._node

    @property
    def ordered(self) -> Any:
        """The tensor, its planes in order."""
        return self.node

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along (1, channels, z, y, x)."""
        return tuple(self.node.output(0).get_shape())

    @property
    def groups_per_chunk(self) -> int:
        """Number of groups in a chunk."""
        groups, plane = self.shape[2] // PHASES, int(np.prod(self.shape[3:]))
        most = max(CHUNK_VOXELS // (PHASES * plane), 1)
        return max(n for n in range(1, groups + 1) if groups % n == 0 and n <= most)

    @property
    def chunks(self) -> list[range]:
        """The planes of each chunk."""
        size = self.groups_per_chunk * PHASES
        return [range(first, first + size) for first in range(0, self.shape[2], size)]

    def map(self, function: Callable[[Any], Any]) -> Volume:
        """Return the volume after an operation that treats all planes alike."""
        return type(self)(self.ops, function(self.node))

    def take(self, planes: range) -> list[Any]:
        """Return tensors that together hold some planes, in their order."""
        return [_planes(self.ops, self.node, planes)]

    def part(self, start: int, stop: int) -> tuple[Volume, int]:
        """Return a volume that holds the planes from `start` to `stop`, and its first plane."""
        return self, 0

    def around(self, chunk: range) -> list[Any]:
        """Return the planes before, in and after the groups of a chunk: six tensors, in order.

        Each has as many planes as the chunk has groups. Beyond the volume are zeros.
        """
        depth = self.shape[2]
        part, first = self.part(max(chunk.start - 1, 0), min(chunk.stop + 1, depth))
        tensors = []
        for place in range(-1, PHASES + 1):
            planes = range(chunk.start + place, chunk.stop + place, PHASES)
            before, after = planes[0] < 0, planes[-1] >= depth
            inside = planes[int(before) : len(planes) - int(after)]
            shifted = range(inside.start - first, inside.stop - first, PHASES)
            tensors.append(self._joined(before, part.take(shifted) if inside else [], after))
        return tensors

    def _joined(self, before: bool, nodes: list[Any], after: bool) -> Any:
        """Return tensors as one, with a plane of zeros before or after them."""
        _, channels, _, *plane = self.shape
        zeros = self.ops.constant(np.zeros((1, channels, 1, *plane), dtype=np.float32))
        parts = [zeros] * before + nodes + [zeros] * after
        return self.ops.concat(parts, 2) if len(parts) > 1 else parts[0]


class PhaseSorted(Volume):
    """A volume with chunk after chunk, and in each of them phase after phase."""

    @property
    def ordered(self) -> Any:
        """The tensor, its planes in order."""
        return self.ops.concat([self._ordered(chunk) for chunk in self.chunks], 2)

    def take(self, planes: range) -> list[Any]:
        """Return tensors that together hold some planes of one phase."""
        places = [self._place(z) for z in planes]
        breaks = [n for n in range(1, len(places)) if places[n] != places[n - 1] + 1]
        runs = pairwise([0, *breaks, len(places)])
        return [_planes(self.ops, self.node, range(places[a], places[b - 1] + 1)) for a, b in runs]

    def _ordered(self, chunk: range) -> Any:
        part = _planes(self.ops, self.node, chunk)
        planes = self.ops.split(part, self.ops.constant(np.int64(2)), len(chunk)).outputs()
        return self.ops.concat([planes[self._place(z) - chunk.start] for z in chunk], 2)

    def _place(self, z: int) -> int:
        """Return where a plane is in the tensor."""
        count = self.groups_per_chunk
        chunk, inside = divmod(z, count * PHASES)
        return chunk * count * PHASES + inside % PHASES * count + inside // PHASES


class Upsampled(Volume):
    """A tensor after a transposed convolution whose kernel is its stride, computed part by part.

    Parameters
    ----------
    ops : module
        OpenVINO's operations.
    lower : Node
        The tensor (1, inputs, z, y, x).
    filters : ndarray of float32, shape (inputs, outputs, z, y, x)
    bias : ndarray of float32, shape (outputs,), optional
    """

    def __init__(self, ops: Any, lower: Any, filters: np.ndarray, bias: np.ndarray | None) -> None:
        self.ops, self.lower = ops, lower
        self.channels, *self.stride = filters.shape[1:]
        self.filters = ops.constant(filters)
        self.bias = bias

    @property
    def node(self) -> Any:
        """The tensor in one piece."""
        return self._whole

    @cached_property
    def _whole(self) -> Any:
        return self._upsampled(self.lower)

    def map(self, function: Callable[[Any], Any]) -> Volume:
        """Return the volume after an operation that treats all planes alike."""
        return Volume(self.ops, function(self.node))

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along (1, channels, z, y, x)."""
        lower = Volume(self.ops, self.lower).shape
        return (1, self.channels, *(n * k for n, k in zip(lower[2:], self.stride, strict=True)))

    def part(self, start: int, stop: int) -> tuple[Volume, int]:
        """Return a volume that holds the planes from `start` to `stop`, and its first plane."""
        step = self.stride[0]
        low = start // step
        lower = _planes(self.ops, self.lower, range(low, -(-stop // step)))
        return Volume(self.ops, self._upsampled(lower)), low * step

    def _upsampled(self, node: Any) -> Any:
        node = self.ops.convolution_backprop_data(node, self.filters, self.stride)
        return add_bias(self.ops, node, self.bias)


def convolve(
    ops: Any, volumes: Sequence[Volume], filters: Sequence[np.ndarray], bias: np.ndarray | None
) -> Volume:
    """Return the sum of convolutions of stride 1, as large as the input, of several volumes.

    Parameters
    ----------
    ops : module
        OpenVINO's operations.
    volumes : sequence of Volume
        Of one size; their number of planes is a multiple of four.
    filters : sequence of ndarray of float32, shape (outputs, inputs, 3, y, x)
        Odd sizes along y and x.
    bias : ndarray of float32, shape (outputs,), optional
    """
    kernels = [_kernels(ops, part) for part in filters]
    pads = [0, *((size - 1) // 2 for size in filters[0].shape[3:])]
    planes = []
    for chunk in volumes[0].chunks:
        around = [volume.around(chunk) for volume in volumes]
        products = []
        for number, row in enumerate(INPUTS):
            terms = [
                ops.convolution(
                    _combined(ops, row, inputs), kernel[number], [1, 1, 1], pads, pads, [1, 1, 1]
                )
                for inputs, kernel in zip(around, kernels, strict=True)
            ]
            products.append(_combined(ops, np.ones(len(terms), np.float32), terms))
        products[_BIASED] = add_bias(ops, products[_BIASED], bias)
        planes += [_combined(ops, row, products) for row in OUTPUTS]
    return PhaseSorted(ops, ops.concat(planes, 2))


def add_bias(ops: Any, node: Any, bias: np.ndarray | None) -> Any:
    """Return a tensor with a bias, if there is one, added to each channel."""
    return node if bias is None else ops.add(node, ops.constant(along_channels(bias)))


def along_channels(values: np.ndarray) -> np.ndarray:
    """Return one value a channel as an array that fits a tensor."""
    return values.reshape(1, -1, 1, 1, 1)


def _kernels(ops: Any, filters: np.ndarray) -> list[Any]:
    """Return the filters over (y, x) of the six products."""
    taps = FILTERS.astype(np.float32) @ filters.reshape(-1, TAPS, filters[0, 0, 0].size)
    shape = (*filters.shape[:2], len(FILTERS), 1, *filters.shape[3:])
    return [
        ops.constant(np.ascontiguousarray(part)) for part in np.moveaxis(taps.reshape(shape), 2, 0)
    ]


def _combined(ops: Any, factors: np.ndarray, nodes: Sequence[Any]) -> Any:
    """Return a weighted sum of nodes."""
    total = None
    for factor, node in zip(factors, nodes, strict=True):
        if factor == 0:
            continue
        term = node if factor == 1 else ops.multiply(node, ops.constant(np.array([factor])))
        total = term if total is None else ops.add(total, term)
    return total


def _planes(ops: Any, node: Any, planes: range) -> Any:
    """Return some planes of a tensor."""
    bounds = [np.array([n], dtype=np.int64) for n in (planes.start, planes[-1] + 1, planes.step, 2)]
    return ops.slice(node, *map(ops.constant, bounds))
