"""Convolutions with half the multiplications, for OpenVINO graphs.

Winograd's F(4, 3) along z: four neighboring outputs of a filter of three taps take six products,
not twelve (Lavin & Gray 2016, doi:10.1109/CVPR.2016.435). A product is a convolution over (y, x)
of a combination of planes; the sums around it are cheap. Only z is treated like that, since planes
lie one after the other in the layout in which OpenVINO convolves, and are taken and put together
at the speed of a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

TAPS, PHASES = 3, 4
CHUNK_VOXELS = 2**18
"""Largest size of what is convolved at once: its products stay in the cache of a CPU."""
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
"""Which planes, from the one before a group of four to the one after it, make each product."""
FILTERS = (
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64)
    / 24
)
"""Which taps of the filter make each product."""
OUTPUTS = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=np.float32,
)
"""Which products make each of the four planes."""
_BIASED = 1
"""A product that each plane holds once: a bias added to it is added to all."""


class Volume:
    """A tensor (1, channels, z, y, x) of a graph, with its planes in order.

    Four neighboring planes are a *group*, and phase r of it is its plane r; some neighboring
    groups are a *chunk*, which is convolved at once.

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
    def chunks(self) -> int:
        """Number of chunks."""
        return self.shape[2] // (PHASES * self.groups_per_chunk)

    @property
    def ordered(self) -> Any:
        """The tensor with its planes in order."""
        return self.node

    def map(self, function: Callable[[Any], Any]) -> Volume:
        """Return the volume after an operation that treats all planes alike."""
        return type(self)(self.ops, function(self.node))

    def around(self, chunk: int) -> list[Any]:
        """Return what the products of a chunk are made of.

        That is, of each group, the plane before it, its four planes and the plane after it: six
        tensors with as many planes as the chunk has groups. Beyond the ends are zeros.
        """
        depth, count = self.shape[2], self.groups_per_chunk
        first, last = chunk * count * PHASES, (chunk + 1) * count * PHASES
        take = self.window(max(first - 1, 0), min(last + 1, depth))
        return [
            self._padded(take, range(first + place, last + place, PHASES))
            for place in range(-1, PHASES + 1)
        ]

    def window(self, start: int, stop: int) -> Callable[[range], list[Any]]:
        """Return a function that gives tensors with some of the planes from `start` to `stop`."""
        return lambda planes: [_planes(self.ops, self.node, planes)]

    def _padded(self, take: Callable[[range], list[Any]], planes: range) -> Any:
        before, after = planes[0] < 0, planes[-1] >= self.shape[2]
        inside = planes[int(before) : len(planes) - int(after)]
        _, channels, _, *plane = self.shape
        zeros = self.ops.constant(np.zeros((1, channels, 1, *plane), dtype=np.float32))
        parts = [zeros] * before + (take(inside) if inside else []) + [zeros] * after
        return self.ops.concat(parts, 2) if len(parts) > 1 else parts[0]


class Sorted(Volume):
    """A volume with chunk after chunk, and in each of them phase after phase."""

    @property
    def ordered(self) -> Any:
        """The tensor with its planes in order."""
        return self.ops.concat([self._ordered(chunk) for chunk in range(self.chunks)], 2)

    def window(self, start: int, stop: int) -> Callable[[range], list[Any]]:
        """Return a function that gives tensors with some planes of one phase."""

        def take(planes: range) -> list[Any]:
            places = [self._place(z) for z in planes]
            breaks = [n for n in range(1, len(places)) if places[n] != places[n - 1] + 1]
            runs = pairwise([0, *breaks, len(places)])
            return [
                _planes(self.ops, self.node, range(places[a], places[b - 1] + 1)) for a, b in runs
            ]

        return take

    def with_overlap(self, chunk: int) -> Any:
        """Return a chunk with its planes in order, and the plane before it."""
        first = chunk * self.groups_per_chunk * PHASES
        before = self._padded(self.window(first - 1, first), range(first - 1, first))
        return self.ops.concat([before, self._ordered(chunk)], 2)

    def _ordered(self, chunk: int) -> Any:
        size = self.groups_per_chunk * PHASES
        first = chunk * size
        part = _planes(self.ops, self.node, range(first, first + size))
        planes = self.ops.split(part, self.ops.constant(np.int64(2)), size).outputs()
        return self.ops.concat([planes[self._place(first + z) - first] for z in range(size)], 2)

    def _place(self, z: int) -> int:
        """Return where a plane is in the tensor."""
        count = self.groups_per_chunk
        chunk, inside = divmod(z, count * PHASES)
        return chunk * count * PHASES + inside % PHASES * count + inside // PHASES


class Upsampled(Volume):
    """What a transposed convolution whose kernel is its stride makes of a tensor, part by part.

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
        self.stride = filters.shape[2:]
        self.filters = ops.constant(filters)
        self.bias = None if bias is None else _channels(ops, bias)

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
        size = [n * k for n, k in zip(_shape(self.lower)[2:], self.stride, strict=True)]
        return (1, _shape(self.filters)[1], *size)

    def window(self, start: int, stop: int) -> Callable[[range], list[Any]]:
        """Return a function that gives a tensor with some of the planes from `start` to `stop`."""
        step = self.stride[0]
        low = start // step
        piece = self._upsampled(_planes(self.ops, self.lower, range(low, -(-stop // step))))

        def take(planes: range) -> list[Any]:
            inside = range(planes.start - low * step, planes.stop - low * step, planes.step)
            return [_planes(self.ops, piece, inside)]

        return take

    def _upsampled(self, node: Any) -> Any:
        node = self.ops.convolution_backprop_data(node, self.filters, list(self.stride))
        return node if self.bias is None else self.ops.add(node, self.bias)


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
    shift = None if bias is None else _channels(ops, bias)
    planes = []
    for chunk in range(volumes[0].chunks):
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
        if shift is not None:
            products[_BIASED] = ops.add(products[_BIASED], shift)
        planes += [_combined(ops, row, products) for row in OUTPUTS]
    return Sorted(ops, ops.concat(planes, 2))


def convolve_and_halve(
    ops: Any,
    volume: Sorted,
    filters: np.ndarray,
    bias: np.ndarray | None,
    stride: Sequence[int],
) -> Volume:
    """Return a convolution with a stride of two along z, chunk by chunk.

    No copy of the volume with its planes in order is needed; the multiplications are all there.

    Parameters
    ----------
    ops : module
        OpenVINO's operations.
    volume : Sorted
    filters : ndarray of float32, shape (outputs, inputs, 3, y, x)
    bias : ndarray of float32, shape (outputs,), optional
    stride : sequence of int
        Along (z, y, x).
    """
    kernel = ops.constant(filters)
    pads = [0, *((size - 1) // 2 for size in filters.shape[3:])]
    parts = [
        ops.convolution(volume.with_overlap(chunk), kernel, list(stride), pads, pads, [1, 1, 1])
        for chunk in range(volume.chunks)
    ]
    node = ops.concat(parts, 2)
    return Volume(ops, node if bias is None else ops.add(node, _channels(ops, bias)))


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


def _channels(ops: Any, values: np.ndarray) -> Any:
    return ops.constant(values.reshape(1, -1, 1, 1, 1))


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.output(0).get_shape())
