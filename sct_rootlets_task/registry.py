"""The task registry: one entry for each task, and nothing else.

The command line, the help, the installer, the model card's test and the documentation are made
from these entries. To add a task, add one :class:`~sct_rootlets_task.tasks.Task` to :data:`TASKS`.
"""

from __future__ import annotations

from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.sources import ByLocator, ByName
from sct_rootlets_task.tasks import Release, Task, TaskRegistry

_RELEASES_URL = "https://github.com/ivadomed/model-spinal-rootlets/releases/download"

STARTER = Release(
    tag="starter",
    description=(
        "Built-in pair of small networks of this package (a locator and a starter), trained on "
        "synthetic images around template labels; works offline, finds fewer rootlets than the "
        "published models."
    ),
    bundled="starter",
    level_source=ByLocator(),
    citation="The sct-rootlets-task developers, built-in starter model (see model_card.json).",
)

ROOTLETS = Task(
    name="rootlets",
    description="Segmentation of spinal nerve rootlets for T2w and MP2RAGE contrasts",
    long_description=(
        "Segments the dorsal and ventral spinal nerve rootlets C2 to T1 into one level map; the "
        "value of a voxel is its spinal level (2=C2, 3=C3, … 8=C8, 9=T1). The published model "
        "RootletSeg is a 3D nnU-Net trained on 76 scans of healthy adults: T2w at 3 T and MP2RAGE "
        "(UNIT1, INV1, INV2) at 7 T. A small built-in starter model works without a network and "
        "is always named as such."
    ),
    url="https://github.com/ivadomed/model-spinal-rootlets",
    model_name="model_seg_spinal_rootlets_nnunet",
    releases=(
        Release(
            tag="r20250318",
            description="RootletSeg: C2–T1, dorsal and ventral, T2w and MP2RAGE.",
            urls=(f"{_RELEASES_URL}/r20250318/model-spinal-rootlets-multicon-r20250318.zip",),
            citation=(
                "Krejčí K. et al. RootletSeg: deep learning method for spinal rootlets "
                "segmentation across MRI contrasts. arXiv:2509.16255 (2025)."
            ),
        ),
        STARTER,
    ),
    default="r20250318",
    fallback="starter",
    contrasts=("t2", "UNIT1", "T1w-INV1", "T1w-INV2"),
    level_source=ByName(),
    levels=tuple(range(2, 10)),
    priors=CERVICAL,
)

SEG_SPINAL_ROOTLETS_T2W = Task(
    name="seg_spinal_rootlets_t2w",
    description="Segmentation of dorsal spinal nerve rootlets for T2w contrast (SCT 6 name)",
    long_description=(
        "Segments the dorsal spinal nerve rootlets C2 to C8 on T2w images into one level map; the "
        "value of a voxel is its spinal level (2=C2, … 8=C8). This is the first published model "
        "(M5), a 3D nnU-Net trained on 31 T2w scans. Kept for scripts written for SCT 6; new "
        "studies should use the task 'rootlets'."
    ),
    url="https://github.com/ivadomed/model-spinal-rootlets",
    model_name="model_seg_spinal_rootlets_nnunet",
    releases=(
        Release(
            tag="r20240730",
            description="M5: C2–C8, dorsal, T2w (the weights of r20240129, repackaged).",
            urls=(f"{_RELEASES_URL}/r20240730/model-spinal-rootlets_M5_r20240129-2.zip",),
            citation=(
                "Valošek J. et al. Automatic segmentation of the spinal cord nerve rootlets. "
                "Imaging Neuroscience (2024). doi:10.1162/imag_a_00218."
            ),
        ),
        Release(
            tag="r20240129",
            description="M5 as first packaged, for SCT 6.2 and 6.3 (no trainer folder).",
            urls=(f"{_RELEASES_URL}/r20240129/model-spinal-rootlets_M5_r20240129.zip",),
            citation=(
                "Valošek J. et al. Automatic segmentation of the spinal cord nerve rootlets. "
                "Imaging Neuroscience (2024). doi:10.1162/imag_a_00218."
            ),
        ),
        STARTER,
    ),
    default="r20240730",
    fallback="starter",
    contrasts=("t2",),
    level_source=ByName(),
    levels=tuple(range(2, 9)),
    priors=CERVICAL,
    legacy_of="rootlets",
)

TASKS = TaskRegistry((ROOTLETS, SEG_SPINAL_ROOTLETS_T2W))
"""All tasks of the package, by name."""
