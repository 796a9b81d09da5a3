"""Label maps and what belongs to them, written together: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sct_rootlets_task.io.atomic import atomic_outputs, hash_file, json_bytes
from sct_rootlets_task.io.ownership import sidecar_of


def write_results(
    images: Mapping[Path, Any],
    record: Mapping[str, Any],
    *,
    texts: Mapping[Path, str],
    before: Callable[[Mapping[Path, Path]], object] | None = None,
) -> None:
    """Write label maps with their sidecars, and text files such as tables.

    Everything is complete before the first file is moved into place, and label maps come last:
    where one is, the rest is too. Each sidecar names the checksum of its label map.

    Parameters
    ----------
    images : mapping of Path to nibabel.Nifti1Image
        Label maps by their files, ``.nii`` or ``.nii.gz``. A sidecar has the same name and ends in
        ``.json``.
    record : mapping
        Content of each sidecar.
    texts : mapping of Path to str
        Further files (UTF-8).
    before : callable, optional
        Is told of the complete files, by their final names, before the first is moved.

    Raises
    ------
    OutputError
        If a file cannot be written; then all files are as they were.
    """
    import nibabel as nib

    count = len(images)
    final = (*texts, *map(sidecar_of, images), *images)
    with atomic_outputs(*final) as temporaries:
        tables, places = temporaries[: len(texts)], temporaries[len(texts) :]
        for table, text in zip(tables, texts.values(), strict=True):
            table.write_bytes(text.encode("utf-8", "backslashreplace"))
        pairs = zip(places[:count], places[count:], strict=True)
        for (path, image), (sidecar, label_map) in zip(images.items(), pairs, strict=True):
            nib.save(image, label_map)
            output = {"Name": path.name, "SHA256": hash_file(label_map)}
            sidecar.write_bytes(json_bytes({**record, "Output": output}))
        if before:
            before(dict(zip(final, temporaries, strict=True)))
