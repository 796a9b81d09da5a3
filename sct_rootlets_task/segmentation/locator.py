"""The locator: a built-in network that sees the spinal canal and its levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sct_rootlets_task.inference.loading import Network, Options, load_network
from sct_rootlets_task.inference.model_folder import ModelFolder, read_model_folder
from sct_rootlets_task.inference.trainer_folder import find_trainer_folder
from sct_rootlets_task.io.images import InputImage
from sct_rootlets_task.levels.located_canal import Canal, LocatedLevels, fit_canal, located_levels
from sct_rootlets_task.levels.sources import ByLocator
from sct_rootlets_task.runtime import chosen_threads, limited_threads
from sct_rootlets_task.segmentation.padding import find_padding
from sct_rootlets_task.segmentation.reoriented_network import ReorientedNetwork
from sct_rootlets_task.segmentation.view import View, view_of
from sct_rootlets_task.tasks import BUNDLED

NetworkLoader = Callable[[ModelFolder, Options], Network]


def locator_folder(source: ByLocator, folder: Path | None = None) -> ModelFolder:
    """Read the model folder of the built-in locator that `source` names, or of another one."""
    return read_model_folder(find_trainer_folder(folder or BUNDLED / source.locator))


def load_locator(
    folder: ModelFolder, source: ByLocator, load: NetworkLoader, options: Options
) -> ReorientedNetwork:
    """Return the locator of a model folder, ready to run.

    Parameters
    ----------
    folder : ModelFolder
        What :func:`locator_folder` gives.
    source : ByLocator
        The voxel size that it needs.
    load : callable
        Makes a network of a model folder.
    options : Options
        How to run it, always without mirrored copies and without a progress bar.
    """
    network = load(folder, replace(options, test_time_aug=False, progress=False))
    return ReorientedNetwork(folder, network, folder.orientation or "LPI", source.min_voxel_mm)


def find_canal(locator: ReorientedNetwork, image: InputImage, view: View) -> Canal:
    """Return the canal on the grid of an image, in order from head to tail.

    Parameters
    ----------
    locator : ReorientedNetwork
        What :func:`load_locator` gives.
    image : InputImage
        A checked 3-D image of any orientation.
    view : View
        What the networks are shown of it.
    """
    classes = view.to_source(locator.classes(view.image))
    return fit_canal(classes, image.affine, locator.folder.classes)


def locate(
    image: InputImage, options: Options | None = None, *, locator: Path | None = None
) -> LocatedLevels:
    """Return the spinal levels of the spinal canal, as a locator sees them.

    Parameters
    ----------
    image : InputImage
        A checked 3-D image of any orientation.
    options : Options, optional
        How to run the network.
    locator : Path, optional
        Folder that holds the locator's model folder; that of the built-in one by default.
    """
    options, source = options or Options(device="cpu"), ByLocator()
    with limited_threads(chosen_threads(options.threads)):
        folder = locator_folder(source, locator)
        network = load_locator(folder, source, load_network, options)
        padding = find_padding(image.data)
        levels = located_levels(find_canal(network, image, view_of(image, padding)))
    doubts = padding.doubts if padding and levels.levels else ()
    return replace(levels, warnings=(*levels.warnings, *doubts))
