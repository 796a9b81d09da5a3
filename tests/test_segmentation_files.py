"""One function segments an image file and writes all that belongs to the result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fake_network import Loader
from sct_rootlets_task.errors import ImageError, NotShownError, OutputError, UsageError
from sct_rootlets_task.io.outputs import plan_outputs
from sct_rootlets_task.models.resolve import InstalledModel
from sct_rootlets_task.qc import preview
from sct_rootlets_task.segmentation.files import Request, segment_file, segment_to_files
from sct_rootlets_task.segmentation.segmenter import Segmenter
from test_sct_deepseg import PLAIN, image, labels_of, model  # noqa: F401 (fixtures)
from volumes import write_image


@pytest.fixture
def segmenter(model: Path) -> Segmenter:  # noqa: F811
    installed = InstalledModel(model, None, "own", custom=True)
    return Segmenter(PLAIN["rootlets"], installed, load=Loader())


def test_a_segmented_file_is_described_and_nothing_is_written(
    segmenter: Segmenter,
    image: Path,  # noqa: F811
) -> None:
    before = sorted(image.parent.rglob("*"))
    found = segment_file(image, segmenter, notice="Look twice.")
    assert sorted(image.parent.rglob("*")) == before
    assert found.levels_found == "C2 8, C3 8, C4 8, C5 8, C6 8, C7 8, C8 8, T1 8"
    assert np.array_equal(np.asarray(found.labels.dataobj), found.segmentation.labels)
    assert found.labels.header["descrip"] == b"rootlets C2-T1 by own, value=level (C1=1)"
    assert list(found.record)[:3] == ["Notice", "Sources", "Task"]
    assert found.record["Sources"] == [image.name]
    assert found.record["Plausibility"] == found.report.to_dict()


def test_an_image_without_rootlets_has_no_levels(segmenter: Segmenter, tmp_path: Path) -> None:
    data = np.arange(100, 1100, dtype=np.int16).reshape(10, 10, 10)
    found = segment_file(write_image(tmp_path / "a.nii.gz", data), segmenter)
    assert found.levels_found == "none"


def test_the_commands_in_a_sidecar_name_no_folder(
    segmenter: Segmenter,
    image: Path,  # noqa: F811
) -> None:
    found = segment_file(image, segmenter, output=image.with_name("out.nii.gz"))
    assert str(image.parent) not in json.dumps(found.record["Plausibility"])


def test_all_that_is_planned_and_asked_for_is_written(
    segmenter: Segmenter,
    image: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    out = f"{tmp_path}/out/"
    (job,) = plan_outputs([image], out, "_rootlets", preview=out, viewers=["fsleyes", "slicer"])
    request = Request(["rootlets", "-i", str(image)], qc=tmp_path / "qc", qc_subject="one")
    request.require_all([job])
    found = segment_to_files(job, segmenter, request)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"sub-01_T2w_rootlets{ending}" for ending in (".nii.gz", ".json", ".lut", ".ctbl", ".png")
    }
    assert np.array_equal(labels_of(job.output), found.segmentation.labels)
    written = json.loads(job.sidecar.read_text())
    assert list(written) == ["GeneratedBy", *found.record, "Output"]
    assert "sct_deepseg rootlets -i sub-01_T2w.nii.gz" in written["GeneratedBy"][0]["Name"]
    (entry,) = (tmp_path / "qc" / "entries").iterdir()
    assert entry.name.startswith("one-")


def test_a_picture_that_fails_leaves_the_level_map_and_says_so(
    segmenter: Segmenter,
    image: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no ink")

    monkeypatch.setattr(preview, "draw", fail)
    (job,) = plan_outputs([image], None, "_rootlets", preview=f"{image.parent}/")
    with pytest.raises(NotShownError, match="is complete; what shows it is not") as caught:
        segment_to_files(job, segmenter, Request())
    assert isinstance(caught.value, OutputError)
    assert str(caught.value.__cause__) == "no ink"
    assert labels_of(job.output).any()
    assert job.sidecar.is_file()


def test_an_image_that_cannot_be_read_writes_nothing(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    (job,) = plan_outputs([tmp_path / "a.nii.gz"], None, "_rootlets")
    with pytest.raises(ImageError):
        segment_to_files(job, segmenter, Request())
    assert [path.name for path in tmp_path.glob("a*")] == ["a.nii.gz"]


def test_a_report_that_cannot_be_made_is_found_out_before_the_first_image(tmp_path: Path) -> None:
    folder = tmp_path / "qc"
    folder.mkdir()
    (folder / "index.html").write_text("somebody else's")
    with pytest.raises(UsageError):
        Request(qc=folder).require_all([])
    Request().require_all([])
