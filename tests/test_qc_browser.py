"""The QC report in a real browser, opened from disk."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sct_rootlets_task.level_names import level_color
from sct_rootlets_task.qc.entry import Details
from sct_rootlets_task.qc.listing import ROWS, read_rows, write_rows
from sct_rootlets_task.qc.pages import RATINGS
from sct_rootlets_task.qc.report import add_entry, rebuild
from test_qc import HOSTILE, phantom, write_case

pytestmark = pytest.mark.browser

OPTIONS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
    "--use-angle=swiftshader",
)
SUBJECTS = ("sub-01", "sub-02", "sub-03", HOSTILE)
_EXPECTED = tuple(range(2, 10))


def _absent(what: str) -> None:
    """Skip where a browser is a luxury; in CI it is required."""
    message = f"browser tests need {what}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        _absent("Chromium (Debian's package chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _absent("the Python package playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        yield browser
        browser.close()


def _fill(report: Path, folder: Path) -> None:
    """Write a report of four subjects: whole, with a gap and a flag, empty, with a hostile name."""
    flag = {"code": "level_missing", "level": 4, "text": "C4 is absent.", "severity": "warning"}
    note = {"code": "fov_cut", "level": 2, "severity": "note"}
    cases = (
        (phantom((2, 3, 4, 5))[1], "model-a", [note]),
        (phantom((2, 3, 5))[1], "model-b", [flag]),
        (np.zeros_like(phantom()[1]), "model-a", []),
        (phantom((2, 3))[1], "model-b", [{**flag, "text": HOSTILE, "code": HOSTILE}]),
    )
    for number, (subject, (labels, model, flags)) in enumerate(zip(SUBJECTS, cases, strict=True)):
        name = "image" if subject == HOSTILE else "sub-01_T2w"
        image, segmentation = write_case(folder / str(number), labels, name=name)
        details = Details("study", subject, HOSTILE, model, expected=_EXPECTED, flags=flags)
        page = add_entry(report, image, segmentation, details)
        path = page.with_name("entry.json")
        made = f"2026-01-0{number + 1}T12:00:00+00:00"
        path.write_text(json.dumps({**json.loads(path.read_text()), "made": made}))
    rebuild(report)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    _fill(folder / "qc", folder / "in")
    return folder / "qc"


@pytest.fixture
def report(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "a report's folder"))


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """Give the opened list; afterwards nothing may have gone wrong or left the disk."""
    with opened(browser, report) as page:
        yield page
        assert page.title() in {"Rootlets QC", *(f"{s} – rootlets QC" for s in SUBJECTS)}


@contextmanager
def opened(browser: Any, report: Path) -> Iterator[Any]:
    """Open a report; afterwards nothing may have gone wrong or left the disk."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if _is_bad(message) else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: troubles.append("a dialog opened"))
    page.on("requestfailed", lambda r: troubles.append(r.url) if _is_broken(r) else None)
    page.on("request", lambda request: troubles.append(request.url) if _leaves(request) else None)
    page.goto((report / "index.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    page.troubles = troubles
    yield page
    assert troubles == []
    context.close()


def _is_bad(message: Any) -> bool:
    return message.type in ("error", "warning") and "GPU stall" not in message.text


def _is_broken(request: Any) -> bool:
    """Tell a file that is not there from one that a new page made superfluous."""
    return request.failure != "net::ERR_ABORTED"


def _leaves(request: Any) -> bool:
    return not request.url.startswith(("file:", "data:", "blob:"))


def shown(page: Any) -> list[str]:
    """Return the subjects in the list, in order."""
    rows = page.locator("#entries tbody tr[data-id]")
    return rows.evaluate_all("rows => rows.map((row) => row.dataset.subject)")


def entry_of(page: Any, subject: str) -> str:
    """Return the identity of a subject's entry."""
    rows = page.locator("#entries tbody tr")
    known = rows.evaluate_all("rows => rows.map((row) => [row.dataset.subject, row.dataset.id])")
    return str(dict(known)[subject])


def open_entry(page: Any, subject: str) -> str:
    """Open a subject's page from the list."""
    name = entry_of(page, subject)
    page.locator(f"tr[data-id='{name}'] .subject").click()
    page.wait_for_selector("#sheet .pictures")
    return name


def expect_text(page: Any, element: str, text: str) -> None:
    """Wait until an element contains a text; the page's policy forbids polling by script."""
    from playwright.sync_api import expect

    expect(page.locator(f"#{element}")).to_contain_text(text, timeout=60_000)


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def save(page: Any, kind: str) -> tuple[str, str]:
    """Save ratings through the menu and return the file's name and text."""
    page.click("#ratings-menu summary")
    with page.expect_download() as download:
        page.click(f"[data-save={kind}]")
    path = download.value.path()
    return download.value.suggested_filename, Path(path).read_bytes().decode()


# The list


@pytest.mark.parametrize(
    ("words", "subjects"),
    [
        ("sub-02", ["sub-02"]),
        ("STUDY model-a", ["sub-01", "sub-03"]),
        ("level_missing", ["sub-02"]),
        ("c4", ["sub-01"]),
        ("<script>", [HOSTILE]),
        ("nobody", []),
        ("", sorted(SUBJECTS)),
    ],
)
def test_the_filter_finds_subjects_models_levels_and_flags(
    page: Any, words: str, subjects: list[str]
) -> None:
    page.fill("#filter", words)
    assert shown(page) == subjects
    assert page.locator("#nothing").is_visible() == (not subjects)


def test_only_flagged_images_are_shown_on_request(page: Any) -> None:
    page.click("#flagged")
    assert shown(page) == sorted(["sub-02", HOSTILE])
    page.click("#flagged")
    assert len(shown(page)) == 4


@pytest.mark.parametrize(
    ("key", "forwards", "backwards"),
    [
        ("found", "empty hostile gap whole", "whole gap hostile empty"),
        ("warnings", "whole empty hostile gap", "hostile gap whole empty"),
        ("made", "whole gap empty hostile", "hostile empty gap whole"),
    ],
)
def test_a_click_on_a_heading_sorts_and_another_reverses(
    page: Any, key: str, forwards: str, backwards: str
) -> None:
    names = dict(zip(SUBJECTS, ("whole", "gap", "empty", "hostile"), strict=True))
    heading = page.locator(f"th:has([data-sort={key}])")
    for direction, order in (("ascending", forwards), ("descending", backwards)):
        page.click(f"[data-sort={key}]")
        assert heading.get_attribute("aria-sort") == direction
        assert " ".join(names[subject] for subject in shown(page)) == order


def test_ratings_are_sorted_from_fail_to_pass(page: Any) -> None:
    for subject, key in (("sub-01", "p"), ("sub-02", "f"), ("sub-03", "a")):
        page.locator(f"tr[data-id='{entry_of(page, subject)}'] .col-made").click()
        press(page, key)
    page.click("[data-sort=rating]")
    assert shown(page) == ["sub-02", "sub-03", HOSTILE, "sub-01"]


def test_thumbnails_are_there(page: Any) -> None:
    widths = page.locator(".thumbnail").evaluate_all(
        "async images => { for (const i of images) await i.decode(); "
        "return images.map((i) => i.naturalWidth); }"
    )
    assert min(widths) > 20


def test_missing_levels_are_marked(page: Any) -> None:
    row = page.locator(f"tr[data-id='{entry_of(page, 'sub-02')}']")
    assert row.locator(".pip:not(.missing)").all_text_contents() == ["C2", "C3", "C5"]
    assert row.locator(".pip.missing").all_text_contents() == ["C4", "C6", "C7", "C8", "T1"]
    assert row.locator(".pip").first.evaluate("e => getComputedStyle(e).backgroundColor") == (
        "rgb({}, {}, {})".format(*level_color(2))
    )
    empty = page.locator(f"tr[data-id='{entry_of(page, 'sub-03')}']")
    assert "no level" in empty.inner_text()


# Ratings


def test_the_list_is_rated_by_keyboard_and_the_ratings_survive(page: Any) -> None:
    page.fill("#filter", "sub-0")
    press(page, "Enter", "ArrowDown", "p", "ArrowDown", "f", "n")
    page.keyboard.type('C3, too "low" p f a')
    press(page, "Enter", "ArrowDown", "a", "a")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    marks = {
        subject: page.locator(f"tr[data-id='{entry_of(page, subject)}'] .mark").inner_text()
        for subject in ("sub-01", "sub-02", "sub-03")
    }
    assert marks == {"sub-01": "✓ Pass", "sub-02": "✕ Fail", "sub-03": ""}
    note = page.locator(f"tr[data-id='{entry_of(page, 'sub-02')}'] .notes")
    assert note.input_value() == 'C3, too "low" p f a'
    assert "4 images · 2 rated" in page.inner_text("#tally")
    page.click("[data-show=none]")
    assert set(shown(page)) == {"sub-03", HOSTILE}
    page.click("[data-show=fail]")
    assert shown(page) == ["sub-02"]


def test_images_are_rated_one_after_the_other(page: Any) -> None:
    page.fill("#filter", "sub-0")
    press(page, "Enter", "ArrowDown", "Enter")
    page.wait_for_selector("#sheet .pictures")
    assert page.inner_text("#title") == "sub-01"
    assert page.inner_text("#position") == "1 of 3"
    press(page, "f", "n")
    page.keyboard.type("blurred")
    press(page, "Enter")
    assert page.locator("[data-rate=fail]").get_attribute("aria-pressed") == "true"
    press(page, "ArrowRight")
    expect_text(page, "title", "sub-02")
    assert page.locator("[data-rate=fail]").get_attribute("aria-pressed") == "false"
    page.click("[data-rate=pass]")
    press(page, "Escape")
    page.wait_for_selector("#list:not([hidden])")
    assert page.locator("tr.selected").get_attribute("data-subject") == "sub-02"
    assert "2 rated" in page.inner_text("#tally")
    name, text = save(page, "fail")
    assert name == "qc_fail.yml"
    assert text.startswith("FILES_SEG:\n    - ")
    assert text.endswith('/0/sub-01_T2w.nii.gz"  # blurred\n')
    name, text = save(page, "artifact")
    assert (name, text) == ("qc_artifact.yml", '# No image is rated "artifact".\n')


def test_fails_are_saved_as_a_yaml_list_of_files(page: Any, pristine: Path) -> None:
    yaml = pytest.importorskip("yaml")
    open_entry(page, "sub-01")
    press(page, "f", "n")
    page.keyboard.type("# - [x]: {y} 'z'")
    press(page, "Enter", "Escape")
    page.wait_for_selector("#list:not([hidden])")
    open_entry(page, HOSTILE)
    press(page, "f", "Escape")
    page.wait_for_selector("#list:not([hidden])")
    listed = yaml.safe_load(save(page, "fail")[1])
    files = [pristine.parent / "in" / name for name in ("0/sub-01_T2w.nii.gz", "3/image.nii.gz")]
    assert {key: sorted(names) for key, names in listed.items()} == {
        "FILES_SEG": [str(file) for file in files]
    }


def test_ratings_are_saved_as_csv_and_read_again(page: Any, tmp_path: Path) -> None:
    page.evaluate("localStorage.clear()")
    open_entry(page, HOSTILE)
    press(page, "a", "n")
    page.keyboard.type('=1+1, "x"')
    press(page, "Enter", "Escape")
    page.wait_for_selector("#list:not([hidden])")
    name, text = save(page, "csv")
    rows = {row["subject"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert name == "qc_ratings.csv"
    assert text.splitlines()[0].split(",") == list(RATINGS)
    assert set(rows) == set(SUBJECTS)
    assert rows[HOSTILE]["rating"] == "artifact"
    assert rows[HOSTILE]["notes"] == '\'=1+1, "x"', "no spreadsheet may take it for a formula"
    assert rows["sub-02"]["missing"] == "C4 C6 C7 C8 T1"
    (tmp_path / "qc_ratings.csv").write_bytes(text.encode())
    page.evaluate("localStorage.clear()")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert "0 rated" in page.inner_text("#tally")
    page.set_input_files("#load", tmp_path / "qc_ratings.csv")
    expect_text(page, "tally", "1 rated")
    row = page.locator(f"tr[data-id='{entry_of(page, HOSTILE)}']")
    assert row.locator(".mark").inner_text() == "~ Artifact"
    assert row.locator(".notes").input_value() == '=1+1, "x"'


def test_ratings_in_the_spelling_of_the_first_versions_are_read(page: Any, tmp_path: Path) -> None:
    stored = """(id) => {
      const key = Object.keys(localStorage).find((name) => name.endsWith(`/${id}`));
      const record = JSON.parse(localStorage.getItem(key));
      localStorage.setItem(key, JSON.stringify({ ...record, rating: "artefact" }));
    }"""
    name = open_entry(page, "sub-01")
    press(page, "a", "Escape")
    saved = save(page, "csv")[1]
    page.evaluate(stored, name)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    mark = page.locator(f"tr[data-id='{name}'] .mark")
    assert (mark.inner_text(), mark.get_attribute("data-rating")) == ("~ Artifact", "artifact")
    assert "sub-01_T2w.nii.gz" in save(page, "artifact")[1]
    (tmp_path / "old.csv").write_text(saved.replace("artifact", "artefact"), encoding="utf-8")
    page.evaluate("localStorage.clear()")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.set_input_files("#load", tmp_path / "old.csv")
    expect_text(page, "tally", "1 rated")
    assert mark.inner_text() == "~ Artifact"


def test_a_rating_of_an_earlier_run_does_not_count_for_this_one(
    page: Any, report: Path, pristine: Path
) -> None:
    name = open_entry(page, "sub-02")
    press(page, "p")
    image, segmentation = write_case(pristine.parent / "in" / "1", phantom((2, 3, 4, 5))[1])
    add_entry(report, image, segmentation, Details("study", "sub-02", expected=_EXPECTED))
    page.reload()
    page.wait_for_selector("#sheet .pictures")
    assert page.locator("#stale").is_visible()
    assert page.locator("[data-rate=pass]").get_attribute("aria-pressed") == "false"
    press(page, "Escape")
    page.wait_for_selector("#list:not([hidden])")
    assert "0 rated" in page.inner_text("#tally")
    assert "earlier run" in page.locator(f"tr[data-id='{name}'] .mark").inner_text()


def _rate_as(page: Any, name: str, subject: str, key: str, note: str = "") -> None:
    page.click("#ratings-menu summary")
    page.fill("#ratings-menu [data-rater]", name)
    press(page, "Enter")
    page.click("#ratings-menu summary")
    page.locator(f"tr[data-id='{entry_of(page, subject)}'] .col-made").click()
    press(page, key, *(("n",) if note else ()))
    page.keyboard.type(note)
    press(page, *(("Enter",) if note else ()))


def _rows_of_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _forget(page: Any) -> None:
    page.evaluate("localStorage.clear()")
    page.reload()
    page.wait_for_selector("body[data-ready]")


def test_who_rates_is_asked_once_and_stands_in_the_file(page: Any, pristine: Path) -> None:
    open_entry(page, "sub-01")
    press(page, "p")
    assert page.locator("#who").is_visible()
    page.fill("#who input", "=Ann")
    page.click("#who button:first-of-type")
    assert page.locator("#who").is_hidden()
    press(page, "ArrowRight")
    expect_text(page, "title", "sub-02")
    press(page, "f", "Escape")
    page.wait_for_selector("#list:not([hidden])")
    assert page.locator("#who").is_hidden()
    rows = {row["subject"]: row for row in _rows_of_csv(save(page, "csv")[1])}
    raters = [row["rater"] for _, row in sorted(rows.items())]
    assert sorted(raters) == ["", "", "'=Ann", "'=Ann"], "no spreadsheet takes it for a formula"
    image = pristine.parent / "in" / "0" / "sub-01_T2w.nii.gz"
    assert rows["sub-01"]["image_path"] == str(image)
    assert rows["sub-01"]["segmentation_path"] == str(image).replace(".nii", "_rootlets.nii")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.locator("#ratings-menu [data-rater]").input_value() == "=Ann"


def test_nobody_has_to_give_a_name(page: Any) -> None:
    open_entry(page, "sub-01")
    press(page, "p")
    page.click("#nobody")
    press(page, "f")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    press(page, "p")
    assert page.locator("#who").is_hidden()


def test_ratings_of_several_raters_are_merged_and_the_newest_is_shown(
    page: Any, tmp_path: Path
) -> None:
    saved = []
    for name, key, note in (("Ann", "f", "C3 too low"), ("Ben", "p", "")):
        _forget(page)
        _rate_as(page, name, "sub-01", key, note)
        saved.append(tmp_path / f"{name}.csv")
        saved[-1].write_bytes(save(page, "csv")[1].encode())
    for files in (saved, saved[::-1]):
        _forget(page)
        page.set_input_files("#load", files)
        expect_text(page, "tally", "1 rated")
        own = [row for row in _rows_of_csv(save(page, "csv")[1]) if row["subject"] == "sub-01"]
        told = [(row["rater"], row["rating"], row["notes"]) for row in own]
        assert told == [("Ben", "pass", ""), ("Ann", "fail", "C3 too low")]
        assert page.locator(f"tr[data-id='{entry_of(page, 'sub-01')}'] .mark").inner_text() == (
            "✓ Pass"
        )
        assert save(page, "fail")[1].startswith("#"), "the newest counts"
    open_entry(page, "sub-01")
    assert "Ann: ✕ Fail" in page.inner_text("#opinions")
    press(page, "Escape")
    page.wait_for_selector("#list:not([hidden])")
    _rate_as(page, "Ann", "sub-01", "a")
    own = [row for row in _rows_of_csv(save(page, "csv")[1]) if row["subject"] == "sub-01"]
    assert [(row["rater"], row["rating"]) for row in own] == [("Ann", "artifact"), ("Ben", "pass")]


def test_ratings_of_the_form_without_raters_are_read(page: Any, tmp_path: Path) -> None:
    _forget(page)
    _rate_as(page, "", "sub-01", "f", "blurred")
    later = {"rater", "session", "corrected", "image_path", "segmentation_path"}
    rows = _rows_of_csv(save(page, "csv")[1])
    with (tmp_path / "old.csv").open("w", encoding="utf-8", newline="") as stream:
        columns = [column for column in RATINGS if column not in later]
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    _forget(page)
    page.set_input_files("#load", tmp_path / "old.csv")
    expect_text(page, "tally", "1 rated")
    field = page.locator(f"tr[data-id='{entry_of(page, 'sub-01')}'] .notes")
    assert field.input_value() == "blurred"


# Thousands of images

MANY = 2000


@pytest.fixture(scope="module")
def many(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report with thousands of rows, whose entries have nothing but a picture."""
    report = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("many") / "qc"))
    row = next(r for r in read_rows(report / ROWS).values() if r["subject"] == "sub-02")
    picture = report / "entries" / row["id"] / "thumbnail.jpg"
    rows = []
    for number in range(MANY):
        name = f"sub-{number:05d}-0123456789ab"
        tall = "x" * 300 if number % 7 == 0 else ""
        changed = {
            "id": name,
            "subject": f"sub-{number:05d}{tall}",
            "flags": [],
            "session": "ses-1",
        }
        rows.append({**row, **changed, "corrected": number % 500 == 0})
        (report / "entries" / name).mkdir()
        os.link(picture, report / "entries" / name / picture.name)
    write_rows(report / ROWS, rows, {})
    return report


def test_thousands_of_images_are_searched_sorted_rated_and_counted(
    browser: Any, many: Path
) -> None:
    with opened(browser, many) as page:
        assert page.inner_text("#tally") == f"{MANY} images · 0 rated"
        assert len(shown(page)) < 200, "only those near the window are drawn"
        press(page, "k", "f")
        assert page.locator("tr.selected").get_attribute("data-subject") == f"sub-{MANY - 1:05d}"
        assert page.locator("tr.selected").is_visible()
        page.click("[data-sort=rating]")
        page.evaluate("window.scrollTo(0, 0)")
        page.wait_for_timeout(300)
        assert shown(page)[0] == f"sub-{MANY - 1:05d}"
        page.click("[data-show=none]")
        assert page.inner_text("#tally") == f"{MANY - 1} of {MANY} images · 1 rated"
        page.click("[data-show=all]")
        page.click("[data-sort=subject]")
        page.click("[data-sort=subject]")
        assert shown(page)[0] == f"sub-{MANY - 1:05d}"
        page.fill("#filter", "sub-01234 ses-1")
        assert shown(page) == ["sub-01234"]
        page.fill("#filter", "")
        page.click("#corrected")
        assert page.inner_text("#tally") == f"4 of {MANY} images · 1 rated"
        assert page.locator(".chip.corrected").count() == 4
        page.click("#corrected")
        assert len(_rows_of_csv(save(page, "csv")[1])) == MANY


def test_every_row_can_be_scrolled_to(browser: Any, many: Path) -> None:
    with opened(browser, many) as page:
        height = page.evaluate("document.documentElement.scrollHeight")
        assert height > 100 * MANY
        seen: set[str] = set()
        for part in (0.5, 1.0, 0.25, 0.0):
            page.evaluate("y => window.scrollTo(0, y)", part * height)
            page.wait_for_timeout(300)
            inside = page.locator("#entries tbody tr[data-id]").evaluate_all(
                "rows => rows.filter((row) => row.getBoundingClientRect().bottom > 0"
                " && row.getBoundingClientRect().top < innerHeight).map((r) => r.dataset.subject)"
            )
            assert len(inside) >= 3
            assert len(shown(page)) < 400
            seen |= set(inside)
        assert {"sub-00001", f"sub-{MANY - 1:05d}"} <= seen
        page.locator("tr[data-subject=sub-00001] .col-made").click()
        page.evaluate("y => window.scrollTo(0, y)", height)
        page.wait_for_timeout(300)
        press(page, "n")
        page.keyboard.type("far away")
        press(page, "Enter")
        row = page.locator("tr[data-subject=sub-00001]")
        assert row.is_visible()
        assert row.locator(".notes").input_value() == "far away"
        press(page, "ArrowUp")
        for _ in range(89):
            press(page, "ArrowDown")
        assert page.locator("tr.selected").get_attribute("data-subject") == "sub-00089"
        assert page.locator("tr.selected").is_visible()


def test_a_list_that_cannot_be_run_says_what_to_do(page: Any, report: Path) -> None:
    (report / ROWS).write_text("QC.head(", encoding="ascii")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert "sct_rootlets qc -rebuild" in page.inner_text("#broken")
    page.troubles.clear()
    rebuild(report)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert len(shown(page)) == len(SUBJECTS)
    assert page.locator("#broken").is_hidden()


def test_a_row_whose_entry_is_not_in_place_yet_is_not_shown(page: Any, report: Path) -> None:
    row = (report / ROWS).read_bytes().splitlines()[-1]
    for unfinished in (b"// " + row[:100], b"// " + row.replace(b'"id":"', b'"id":"x')):
        with (report / ROWS).open("ab") as stream:
            stream.write(b"\n" + unfinished)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert len(shown(page)) == len(SUBJECTS)


def test_the_page_about_all_images_is_a_click_away(page: Any, report: Path) -> None:
    (report / "cohort.html").write_text("<title>Rootlets QC</title>All", encoding="utf-8")
    rebuild(report)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.click("text=Cohort")
    assert "All" in page.inner_text("body")


def test_maps_of_two_raters_have_two_names(page: Any, report: Path, tmp_path: Path) -> None:
    image, first = write_case(tmp_path / "a")
    _, second = write_case(tmp_path / "b")
    for levels in (first, second):
        add_entry(report, image, levels, Details("study", "sub-09"))
    page.reload()
    page.wait_for_selector("body[data-ready]")
    files = page.locator("tr[data-subject=sub-09] .col-subject .file").all_inner_texts()
    assert [file.split(" · ")[-1] for file in sorted(files)] == [
        "a/sub-01_T2w_rootlets.nii.gz",
        "b/sub-01_T2w_rootlets.nii.gz",
    ]


# The page of one image


def test_all_pictures_are_there_and_lie_on_one_another(page: Any) -> None:
    open_entry(page, "sub-01")
    boxes = page.locator("#sheet .view").evaluate_all(
        """async (views) => {
             const result = [];
             for (const view of views) {
               const images = [...view.querySelectorAll("img")];
               for (const image of images) await image.decode();
               result.push(images.map((image) => {
                 const box = image.getBoundingClientRect();
                 return [image.naturalWidth, box.x, box.y, box.width, box.height];
               }));
             }
             return result;
           }"""
    )
    assert len(boxes) == 3
    for gray, levels in boxes:
        assert gray[0] == levels[0] > 20
        assert gray[1:] == pytest.approx(levels[1:], abs=0.6)


def _opacity(page: Any) -> float:
    overlay = page.locator("#sheet .overlay").first
    return float(overlay.evaluate("image => getComputedStyle(image).opacity"))


def test_one_key_takes_the_levels_off_and_a_slider_sets_how_opaque_they_are(page: Any) -> None:
    open_entry(page, "sub-01")
    assert _opacity(page) == pytest.approx(0.8)
    press(page, "o")
    assert _opacity(page) == 0
    assert page.locator("#overlay").get_attribute("aria-pressed") == "false"
    press(page, "o", "[", "[")
    assert _opacity(page) == pytest.approx(0.6)
    page.locator("#opacity").fill("0.25")
    assert _opacity(page) == pytest.approx(0.25)
    press(page, "ArrowRight")
    assert page.inner_text("#title") == "sub-01", "the slider keeps its own keys"


def test_the_table_and_the_flags_are_shown(page: Any) -> None:
    open_entry(page, "sub-02")
    rows = page.locator(".levels tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["C2", "C3", "C5"]
    assert "C4 is absent." in page.inner_text(".flags")
    assert page.locator(".row-name.missing").inner_text().split()[0] == "C4"


def _colors(page: Any) -> dict[str, int]:
    """Count the pixels of the viewer that have the hue of a level, and the gray ones."""
    picture = Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB")
    pixels = np.asarray(picture).reshape(-1, 3).astype(float)
    bright = pixels[pixels.max(axis=1) > 90]
    counts = {"gray": int((np.ptp(bright, axis=1) < 12).sum())}
    chroma = bright - bright.mean(axis=1, keepdims=True)
    for level in (2, 3, 4, 5):
        color = np.array(level_color(level), float)
        color -= color.mean()
        size = np.linalg.norm(chroma, axis=1)
        cosine = chroma @ color / np.maximum(size * np.linalg.norm(color), 1e-9)
        counts[f"C{level}"] = int(((cosine > 0.97) & (size > 30)).sum())
    return counts


def _show_volume(page: Any, name: str) -> None:
    press(page, "v")
    page.wait_for_selector(f"#canvas[data-shown='{name}']", timeout=60_000)
    page.wait_for_timeout(300)


def test_the_viewer_shows_the_volume_and_the_levels(page: Any) -> None:
    name = open_entry(page, "sub-01")
    _show_volume(page, name)
    seen = _colors(page)
    assert seen["gray"] > 5000
    assert min(seen[f"C{level}"] for level in (3, 4, 5)) > 40
    press(page, "o")
    page.wait_for_timeout(300)
    bare = _colors(page)
    assert max(bare[f"C{level}"] for level in (3, 4, 5)) == 0
    assert bare["gray"] > 5000
    press(page, "o")
    page.click("[data-view=solid]")
    page.wait_for_timeout(500)
    assert min(_colors(page)[f"C{level}"] for level in (3, 4, 5)) > 40


def test_a_tile_takes_the_viewer_to_its_slice(page: Any) -> None:
    name = open_entry(page, "sub-01")
    tile = page.locator(".tile-row").nth(2).locator(".tile").nth(3)
    number = tile.inner_text()
    tile.click()
    page.wait_for_selector(f"#canvas[data-shown='{name}']", timeout=60_000)
    expect_text(page, "place", f"slice {number} ")


def test_what_is_set_aside_is_named_and_its_rating_comes_back(page: Any, report: Path) -> None:
    name = open_entry(page, "sub-02")
    press(page, "p")
    path = report / "entries" / name / "entry.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"flags": [', '"flags": ["<b>x</b>", '), encoding="utf-8")
    (report / "report.json").unlink()
    page.goto((rebuild(report)).as_uri())
    page.wait_for_selector("body[data-ready]")
    assert "sub-02" not in shown(page)
    assert "1 entry is not listed" in page.inner_text("#unreadable")
    page.click("#unreadable summary")
    assert f"entries/{name}: entry.json: flags[0]" in page.inner_text("#unreadable")
    path.write_text(text, encoding="utf-8")
    rebuild(report)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.locator(f"tr[data-id='{name}'] .mark").inner_text() == "✓ Pass"


def test_two_images_of_one_name_are_rated_apart(page: Any, report: Path, tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2"):
        add_entry(report, *write_case(tmp_path / session), Details("study", "sub-09"))
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.fill("#filter", "ses-2")
    assert shown(page) == ["sub-09"]
    page.locator("tr:not([hidden]) .subject").click()
    page.wait_for_selector("#sheet .pictures")
    assert "ses-2/" in page.inner_text("#subtitle")
    press(page, "f", "Escape")
    page.wait_for_selector("#list:not([hidden])")
    page.fill("#filter", "sub-09")
    assert sorted(page.locator("tr:not([hidden]) .mark").all_inner_texts()) == ["", "✕ Fail"]


def test_an_empty_segmentation_has_a_page_and_a_volume(page: Any) -> None:
    name = open_entry(page, "sub-03")
    assert "No level was found" in page.inner_text(".crosswise")
    _show_volume(page, name)
    assert _colors(page)["gray"] > 5000
    press(page, "ArrowLeft")
    expect_text(page, "title", "sub-02")
    _show_volume(page, entry_of(page, "sub-02"))
    assert _colors(page)["C3"] > 40


def test_without_webgl_the_viewer_says_so_and_the_rest_works(page: Any) -> None:
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    open_entry(page, "sub-01")
    press(page, "v")
    expect_text(page, "viewer-state", "The volume cannot be shown here")
    page.troubles.clear()
    press(page, "ArrowRight")
    expect_text(page, "title", "sub-02")


def test_a_hostile_name_is_text_wherever_it_appears(page: Any) -> None:
    open_entry(page, HOSTILE)
    assert page.inner_text("#title") == HOSTILE
    assert HOSTILE in page.inner_text(".flags")
    assert HOSTILE in page.inner_text(".run")
    assert page.locator("#sheet script, #sheet img[src=x], .flags img").count() == 0
    page.wait_for_timeout(200)


def test_the_page_file_of_an_entry_leads_into_the_report(page: Any, report: Path) -> None:
    name = entry_of(page, "sub-02")
    page.goto((report / "entries" / name / "index.html").as_uri())
    page.wait_for_selector("#sheet .pictures")
    assert page.inner_text("#title") == "sub-02"


def test_an_entry_whose_files_are_gone_says_so(page: Any, report: Path) -> None:
    name = entry_of(page, "sub-02")
    shutil.rmtree(report / "entries" / name)
    page.locator(f"tr[data-id='{name}'] .subject").click()
    page.wait_for_selector("#sheet .notice")
    assert name in page.inner_text("#sheet .notice")
    assert all("ERR_FILE_NOT_FOUND" in text or name in text for text in page.troubles)
    page.troubles.clear()


def test_no_foreign_or_inline_script_would_run(page: Any) -> None:
    page.evaluate(
        """() => {
             const script = document.createElement("script");
             script.textContent = "document.title = 'owned'";
             document.head.append(script);
             const image = document.createElement("img");
             image.src = "https://example.invalid/x.png";
             document.body.append(image);
           }"""
    )
    page.wait_for_timeout(200)
    assert page.title() == "Rootlets QC"
    assert sum("Content Security Policy" in text for text in page.troubles) >= 2
    page.troubles.clear()
