"""The methods paragraph of a study, filled from what was run. Whoever uses it may copy it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.level_names import name_levels
from sct_rootlets_task.qc.stored import read_sidecar
from sct_rootlets_task.study.cohort import Image
from sct_rootlets_task.tasks import Task

_METHODS: Mapping[str, str] = {
    "caudal": (
        "Each spinal level reaches from the caudal end of the rootlets of the level above to the "
        "caudal end of its own rootlets."
    ),
    "midpoint": "Neighboring spinal levels meet halfway between the midpoints of their rootlets.",
    "rootlets": "Each spinal level reaches from the cranial to the caudal end of its rootlets.",
}
_ORIGINS: Mapping[str, str] = {
    "pmj": "the pontomedullary junction (PMJ)",
    "cord_mask_top": "the top of the cord mask",
}
_NNUNET = (
    "Isensee F, Jaeger PF, Kohl SAA, Petersen J, Maier-Hein KH. nnU-Net: a self-configuring method "
    "for deep learning-based biomedical image segmentation. Nature Methods 18, 203–211 (2021). "
    "doi:10.1038/s41592-020-01008-z"
)
_SCT = (
    "De Leener B, Lévy S, Dupont SM, et al. SCT: Spinal Cord Toolbox, an open-source software for "
    "processing spinal cord MRI data. NeuroImage 145, 24–43 (2017). "
    "doi:10.1016/j.neuroimage.2016.10.009"
)
_OUTLIERS = "Iglewicz B, Hoaglin DC. How to detect and handle outliers. ASQC Quality Press (1993)."


def methods_text(out_dir: Path, images: Sequence[Image]) -> str:
    """Return the methods paragraph with its references, as Markdown.

    Parameters
    ----------
    out_dir : Path
        Folder of results; the sidecars in it tell what was run.
    images : sequence of Image
        What came of each image.
    """
    done = [image for image in images if image.is_done]
    ran = _by_model(out_dir, done)
    sentences = [
        _segmented(done),
        *(_model(name, known) for name, known in ran.items()),
        *_levels(done),
        *_people(images),
        "Values with a robust z-score above 3.5 were called outliers [OUTLIERS].",
    ]
    return _with_references(" ".join(sentences), ran)


def _segmented(done: Sequence[Image]) -> str:
    subjects = len({image.subject for image in done})
    contrasts = Counter(image.contrast for image in done)
    which = ", ".join(f"{count} {contrast}" for contrast, count in sorted(contrasts.items()))
    return (
        f"Spinal nerve rootlets were segmented in {_count(len(done), 'image')} ({which or 'none'}) "
        f"of {_count(subjects, 'subject')} with sct_rootlets_task {VERSION}, which "
        "runs the rootlets task of Spinal Cord Toolbox [SCT]."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _by_model(out_dir: Path, done: Iterable[Image]) -> dict[str, dict[str, Any]]:
    """Return one sidecar of each model."""
    found: dict[str, dict[str, Any]] = {}
    for image in done:
        if image.model not in found and not image.is_corrected:
            found[image.model] = read_sidecar(out_dir / image.level_map)
    return dict(sorted(found.items()))


def _model(name: str, known: Mapping[str, Any]) -> str:
    packages = str(known.get("SoftwareVersions")).split("; ")
    versions = {name: version for name, _, version in (one.partition(" ") for one in packages)}
    engine, precision = str(known.get("Engine") or ""), str(known.get("Precision") or "")
    how = " ".join(filter(None, (engine, versions.get(engine, ""))))
    task = _task(known)
    levels = task.level_names if task else "of the task"
    post = "" if not known.get("Raw") else " without its post-processing"
    return (
        f"The model {name} [MODEL {name}], an nnU-Net [NNUNET], was run{post}"
        f"{f' with {how}' if how else ''}{f' ({precision})' if precision else ''}; it gives each "
        f"voxel one of the spinal levels {levels}."
    )


def _task(known: Mapping[str, Any]) -> Task | None:
    from sct_rootlets_task.registry import TASKS

    return TASKS.get(str(known.get("Task")))


def _levels(done: Iterable[Image]) -> Iterable[str]:
    methods = Counter(str(image.about.get("Method")) for image in done)
    yield from (_METHODS[name] for name in sorted(methods) if name in _METHODS)
    origins = Counter(str(image.about.get("DistanceOrigin") or "") for image in done)
    for origin, count in sorted(origins.items()):
        if origin:
            words = _ORIGINS.get(origin, f"the cranial end of {origin}")
            yield f"Distances along the cord were counted from {words} in {_count(count, 'image')}."


def _people(images: Sequence[Image]) -> Iterable[str]:
    corrected = sum(image.is_corrected for image in images)
    if corrected:
        maps = _count(corrected, "level map")
        yield f"Hand-corrected level maps took the place of the computed ones: {maps}."
    rated = Counter(image.rating for image in images if image.rating)
    if rated:
        counts = ", ".join(f"{count} {rating}" for rating, count in sorted(rated.items()))
        yield f"Level maps were rated visually ({counts})."
    failed = sum(not image.is_done for image in images)
    if failed:
        yield f"Images that could not be processed: {failed}."
    levels = {level for image in images for level in image.missing}
    lacking = sum(bool(image.missing) for image in images)
    if lacking:
        lost = name_levels(sorted(levels))
        yield f"Not all levels were found in {_count(lacking, 'image')} ({lost})."


def _with_references(text: str, ran: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text with numbers for its marks, and the list of references."""
    known = {"[SCT]": _SCT, "[NNUNET]": _NNUNET, "[OUTLIERS]": _OUTLIERS}
    for name, sidecar in ran.items():
        known[f"[MODEL {name}]"] = _citation(name, sidecar)
    used = sorted((mark for mark in known if mark in text), key=text.index)
    for number, mark in enumerate(used, 1):
        text = text.replace(mark, f"[{number}]")
    numbered = (f"{number}. {known[mark]}" for number, mark in enumerate(used, 1))
    references = "\n".join(numbered)
    return (
        "# Methods\n\nThis text may be copied into a paper, as it is or changed.\n\n"
        f"{text}\n\n## References\n\n{references}\n"
    )


def _citation(name: str, sidecar: Mapping[str, Any]) -> str:
    task = _task(sidecar)
    for release in task.releases if task else ():
        if release.tag == name and release.citation:
            return release.citation
    return f"The model {name}; cite those who made it."
