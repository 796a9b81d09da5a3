"""Each image has its own output, known before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.io.atomic import hash_file, write_json
from sct_rootlets_task.io.outputs import plan_outputs
from sct_rootlets_task.io.ownership import generated_by
from volumes import write_image


def plan(images: list[Path], output: str | None = None, **options: Any) -> list[Path]:
    return [job.output for job in plan_outputs(images, output, "_rootlets", **options)]


def test_without_a_name_each_result_goes_beside_its_image(tmp_path: Path) -> None:
    images = [tmp_path / "a" / "x.nii.gz", tmp_path / "b" / "x.nii"]
    assert plan(images) == [
        tmp_path / "a" / "x_rootlets.nii.gz",
        tmp_path / "b" / "x_rootlets.nii.gz",
    ]


@pytest.mark.parametrize(
    ("output", "name"),
    [
        ("out.nii.gz", "out.nii.gz"),
        ("out.nii", "out.nii"),
        ("out", "out.nii.gz"),
        ("out.v1", "out.v1.nii.gz"),
        ("results/", "results/x_rootlets.nii.gz"),
    ],
)
def test_a_name_for_one_image_is_a_file_unless_it_ends_in_a_slash(output: str, name: str) -> None:
    assert plan([Path("x.nii.gz")], output) == [Path(name)]


def test_a_folder_that_exists_takes_the_result(tmp_path: Path) -> None:
    assert plan([Path("x.nii")], str(tmp_path)) == [tmp_path / "x_rootlets.nii.gz"]


def test_with_several_images_the_name_is_a_folder(tmp_path: Path) -> None:
    images = [Path("x.nii"), Path("y.nii")]
    folder = tmp_path / "new"
    assert plan(images, str(folder)) == [
        folder / "x_rootlets.nii.gz",
        folder / "y_rootlets.nii.gz",
    ]


@pytest.mark.parametrize(
    ("images", "output", "words"),
    [
        (["x.nii", "y.nii"], "out.nii.gz", "names a folder"),
        (["x.nii", "x.nii.gz"], None, "would both be written"),
        (["a/x.nii", "b/x.nii"], "out", "would both be written"),
        (["x.nii", "x.nii"], None, "would both be written"),
        (["x.nii.gz"], "x.nii.gz", "would replace an input image"),
        (["x.nii.gz"], "a/../x.nii.gz", "would replace an input image"),
        (["x.nii.gz"], "x.nii", "or its sidecar"),
        (["x.nii.gz", "x_rootlets.nii.gz"], None, "would replace an input image"),
    ],
)
def test_outputs_that_would_lose_something_are_refused(
    images: list[str], output: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        plan([Path(image) for image in images], output)


def test_an_existing_output_is_kept_when_asked(tmp_path: Path) -> None:
    existing = write_image(tmp_path / "x_rootlets.nii.gz")
    output = {"Name": existing.name, "SHA256": hash_file(existing)}
    write_json(tmp_path / "x_rootlets.json", {"GeneratedBy": generated_by("x"), "Output": output})
    assert plan([tmp_path / "x.nii"]) == [existing]
    with pytest.raises(UsageError, match="-overwrite 0"):
        plan([tmp_path / "x.nii"], overwrite=0)


@pytest.mark.parametrize(("output", "sidecar"), [("o.nii.gz", "o.json"), ("o.nii", "o.json")])
def test_the_sidecar_has_the_name_of_the_output(output: str, sidecar: str) -> None:
    (job,) = plan_outputs([Path("x.nii")], output, "_rootlets")
    assert job.sidecar == Path(sidecar)


@pytest.mark.parametrize(
    ("images", "preview", "expected"),
    [
        (["x.nii"], None, [None]),
        (["x.nii"], "p.png", ["p.png"]),
        (["x.nii"], "p", ["p.png"]),
        (["x.nii"], "pictures/", ["pictures/x_rootlets.png"]),
        (["x.nii", "y.nii"], "p", ["p/x_rootlets.png", "p/y_rootlets.png"]),
    ],
)
def test_pictures_are_named_as_outputs_are(
    images: list[str], preview: str | None, expected: list[str | None]
) -> None:
    jobs = plan_outputs([Path(image) for image in images], None, "_rootlets", preview=preview)
    assert [job.preview and str(job.preview) for job in jobs] == expected


@pytest.mark.parametrize(
    ("images", "preview", "words"),
    [
        (["x.nii", "y.nii"], "p.png", "-preview names a folder"),
        (["a/x.nii", "b/x.nii"], "p", "would both be written to p/x_rootlets.png"),
    ],
)
def test_pictures_that_would_replace_one_another_are_refused(
    images: list[str], preview: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        plan_outputs([Path(image) for image in images], None, "_rootlets", preview=preview)


def test_an_existing_picture_is_kept_when_asked(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"")
    preview = str(tmp_path / "p.png")
    with pytest.raises(UsageError, match=r"p\.png exists .* with -preview"):
        plan_outputs([Path("x.nii")], None, "_rootlets", overwrite=0, preview=preview)
