"""Where a model's levels come from: the names of its classes, a table, or the locator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sct_rootlets_task.errors import LevelSourceError
from sct_rootlets_task.level_names import level_from_class_name, name_levels


@dataclass(frozen=True)
class ByName:
    """The classes of the model are named after the levels (``lvl2``, ``C2``, ``T1``)."""


@dataclass(frozen=True)
class ByMap:
    """The classes are matched to levels by a table.

    Parameters
    ----------
    pairs : tuple of (int, int)
        Class index in the network's output and the spinal level it stands for.
    """

    pairs: tuple[tuple[int, int], ...]


LOCATOR_MIN_VOXEL_MM = 1.5
"""Voxel size of the images that the built-in locator learned from."""


@dataclass(frozen=True)
class ByLocator:
    """The model knows rootlets but no levels: each bundle takes the level of the canal beside it.

    Parameters
    ----------
    locator : str
        Name of the built-in locator network, or the path of a folder that holds another one.
    min_voxel_mm : float or None
        Images are averaged to this voxel size for the locator, which learned from such images.
        None leaves them as they are.
    edge_padding_mm : float
        How far the image is edge-padded along the body for the model, not for the locator. Rootlets
        at the ends of the field of view are found more surely.
    reach_mm : float
        Rootlet voxels farther from the located canal than this are no rootlets.
    min_volume_mm3 : float
        Connected components smaller than this are dropped.
    majority : float
        A component takes one level as a whole when at least this share of its voxels agree;
        otherwise each voxel takes the level nearest to it.
    shift_mm : float
        How far a border may move to lie between the rootlets of two levels. It is a little more
        than a level, which is how far the locator may be off.
    first_share : float
        Share of the located first level that its rootlets may fill, from below. The rest may hold
        rootlets of C1. It counts where the canal above is in view. Default: the part of the spinal
        level C2 of PAM50 (z 944.5 to 969.5) in that of the locator (to 975).
    level_weight : float
        How many times as much as usual the global fit pays to change a level. Levels from the place
        along the cord are in order already.
    """

    locator: str = "locator"
    min_voxel_mm: float | None = LOCATOR_MIN_VOXEL_MM
    edge_padding_mm: float = 16.0
    reach_mm: float = 12.0
    min_volume_mm3: float = 4.0
    majority: float = 0.7
    shift_mm: float = 20.0
    first_share: float = 0.82
    level_weight: float = 3.0


LevelSource = ByName | ByMap | ByLocator


def class_levels(
    source: ByName | ByMap, classes: Mapping[str, int], expected: Iterable[int]
) -> dict[int, int]:
    """Return which spinal level each class of a model stands for.

    Parameters
    ----------
    source : ByName or ByMap
        How the model names its levels.
    classes : mapping of str to int
        ``labels`` of the model's ``dataset.json``; class 0 is the background.
    expected : iterable of int
        Levels the task may put out.

    Returns
    -------
    dict of int to int
        Class index → level. Classes whose level is not expected map to 0 (background), so that no
        value outside the task's levels can ever be written.

    Raises
    ------
    LevelSourceError
        If a class has no level, two classes share one, or none of the levels is expected.
    """
    if isinstance(source, ByMap):
        levels = dict(source.pairs)
        unknown = set(classes.values()) - {0} - set(levels)
        if unknown:
            raise LevelSourceError(
                f"The class → level map covers {sorted(levels)}, but the model also has the "
                f"classes {sorted(unknown)}. Extend the map."
            )
    else:
        levels = {i: level_from_class_name(name) for name, i in classes.items() if i != 0}
    if len(set(levels.values())) < len(levels):
        raise LevelSourceError(f"Expected one class a level, found {levels}. Check dataset.json.")
    allowed = set(expected)
    if not allowed & set(levels.values()):
        raise LevelSourceError(
            f"Expected a model of the levels {name_levels(allowed)}, found the classes "
            f"{sorted(classes)}. This model belongs to another task."
        )
    return {i: level if level in allowed else 0 for i, level in levels.items()}
