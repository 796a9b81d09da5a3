"""Cases are exact, repeatable and labeled; a training can be cut off and goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_network import Loader
from sct_rootlets_task.inference.loading import Options, load_network
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.levels import boundary_refinement
from training import choices, evaluate, limits, train, trainer
from training.anatomies import (
    DISCS_BY_EYE,
    Anatomy,
    _slices_along,
    coarser,
    hybrid,
    load_template,
    segmented,
)
from training.artifacts import FAMILIES, SHORT_MM, VISIBLE, ImageSynthesizer
from training.average import average
from training.samples import (
    LOCATOR,
    SPINE_MM,
    STARTER,
    SampleMaker,
    SampleSettings,
    TrainingSample,
    _visible,
)
from training.template import (
    BELOW,
    BORDERS,
    C1,
    DISCS,
    FIRST_LEVEL,
    UNKNOWN,
    classes_of_slices,
    with_c1,
)
from training.update_card import weights_of
from training.widen import widened

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.network
SMALL = SampleSettings((32, 24, 24), 0.8, (1.0, 1.0), away=0.0, painted=1.0, lost=0.0)


def anatomy(name: str = "errsm", *, negative: bool = False) -> Anatomy:
    """Return a straight canal: cord, CSF, a rootlet of C5 on each side, levels C4 to C6."""
    shape = (80, 60, 60)
    y, x = np.ogrid[:60, :60]
    radius = np.hypot(y - 30, x - 30)
    cord = np.broadcast_to(radius < 6, shape)
    csf = np.broadcast_to((radius >= 6) & (radius < 13), shape)
    levels = np.zeros(shape, np.uint8)
    for side in (20, 38):
        levels[30:50, 29:32, side : side + 3] = 5
    classes = np.array([6, 5, 4])[np.minimum(np.arange(80) // 27, 2)][:, None, None] * (radius < 13)
    tissues = np.stack([cord, csf, 0 * cord, levels > 0])
    return Anatomy(
        name, 0.6, torch.full(shape, 0.3, dtype=torch.float16),
        None if negative else torch.from_numpy(tissues.astype(np.float16)),
        torch.from_numpy(levels * (not negative)),
        torch.from_numpy(np.where(negative, UNKNOWN, classes).astype(np.uint8)),
        line=np.full((80, 2), 30.0), span=(0.0, 79.0), negative=negative,
    )  # fmt: skip


def make(seed: int, settings: SampleSettings = SMALL, family: str | None = None) -> TrainingSample:
    return SampleMaker([(1.0, [anatomy()])], settings, seed).make(family)


@pytest.mark.parametrize("number", range(len(BORDERS)))
def test_classes_change_at_the_borders_of_the_template(number: int) -> None:
    border = BORDERS[number]
    above, below = classes_of_slices(np.array([border + 0.25, border - 0.25]))
    assert (above, below) == (number + 1, number + 2)


def test_the_same_seed_makes_the_same_case_and_another_seed_another() -> None:
    first, again, other = make(1), make(1), make(2)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.levels, again.levels)
    assert not torch.equal(first.image, other.image)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_contrast_makes_finite_normalized_images(family: str) -> None:
    sample = make(3, family=family)
    assert sample.family == family
    assert tuple(sample.image.shape) == SMALL.shape
    assert bool(sample.image.isfinite().all())
    assert abs(float(sample.image.mean())) < 0.05


def test_rootlets_lie_in_the_canal_of_their_level_or_a_neighbor() -> None:
    seen = 0
    for seed in range(8):
        sample = make(seed)
        beside = sample.classes[sample.levels == 5]
        seen += len(beside)
        assert set(beside.tolist()) <= {0, 4, 5, 6}
        assert float((beside > 0).float().mean()) > 0.8 if len(beside) else True
    assert seen > 100


@pytest.mark.parametrize("family", FAMILIES)
def test_rootlets_can_be_told_from_the_fluid_in_every_family(family: str) -> None:
    for seed in range(50):
        csf, _, _, root = ImageSynthesizer(np.random.default_rng(seed), (8, 8, 8), 0.8)._tones(
            family
        )
        assert abs(csf - root) > VISIBLE - 1e-9
        assert root >= 0


@pytest.mark.parametrize(
    ("share", "cord", "level"), [(0.6, 0.0, 5), (0.5, 0.4, 5), (0.4, 0.0, 0), (0.6, 0.5, 0)]
)
@pytest.mark.parametrize("place", [4, 5])  # a rootlet's own voxel; beside it, where sampling missed
def test_a_voxel_is_labeled_when_half_of_it_is_rootlet_and_the_cord_leaves_it_free(
    share: float, cord: float, level: int, place: int
) -> None:
    levels = torch.zeros(9, 9, 9, dtype=torch.uint8)
    levels[4, 4, 4] = 5
    rootlets, covered = torch.zeros(9, 9, 9), torch.zeros(9, 9, 9)
    rootlets[4, 4, place], covered[4, 4, place] = share, cord
    result = _visible(levels, rootlets, covered)
    assert int(result[4, 4, place]) == level
    assert int(result.sum()) == level


def test_a_case_has_no_rootlets_under_the_cord() -> None:
    fine = anatomy()
    thick = replace(fine, tissues=fine.tissues.clone())
    thick.tissues[0] = 1  # cord everywhere
    maker = SampleMaker([(1.0, [fine])], SMALL, 5)
    hidden = SampleMaker([(1.0, [thick])], SMALL, 5)
    samples = [maker.make("T2w") for _ in range(4)]
    assert sum(int((sample.levels == 5).sum()) for sample in samples) > 50
    assert not any(hidden.make("T2w").levels.any() for _ in range(4))


def test_rootlets_of_c1_are_painted_in_some_cases_and_never_labeled() -> None:
    upper = anatomy()
    upper.levels[44:] = 0
    upper.levels[upper.levels == 5] = FIRST_LEVEL
    upper.tissues[3] = upper.levels > 0
    raised = with_c1(upper.levels.numpy())
    assert set(np.flatnonzero((raised == C1).any((1, 2)))) == set(range(48, 62))
    assert (raised == C1).sum() == (raised == FIRST_LEVEL).sum() == upper.tissues[3].sum()
    both = upper.tissues.clone()
    both[3] = torch.from_numpy(raised > 0)
    changed = 0
    for seed in range(12):
        settings = replace(SMALL, shape=(56, 40, 40))
        without, there = (
            SampleMaker(
                [(1, [replace(upper, levels=levels, tissues=tissues)])], settings, seed
            ).make()
            for levels, tissues in (
                (upper.levels, upper.tissues),
                (torch.from_numpy(raised), both),
            )
        )
        assert C1 not in there.levels
        assert torch.equal(without.levels, there.levels)
        changed += not torch.equal(without.image, there.image)
    assert 3 <= changed <= 11, "rootlets of C1 are there in all samples, or hardly any"


def test_rootlets_of_c1_are_shown_on_all_sides_in_front_or_not_at_all() -> None:
    ring = anatomy()
    z = torch.arange(80)[:, None, None]
    near = (torch.hypot(torch.arange(60)[:, None] - 30.0, torch.arange(60) - 30.0) < 12)[None]
    ring.levels[:] = torch.where(near & (z >= 40), C1, FIRST_LEVEL) * near
    places = torch.meshgrid(*(torch.arange(float(n)) for n in ring.levels.shape), indexing="ij")
    seen = set()
    for seed in range(30):
        shown = SampleMaker([(1, [ring])], SMALL, seed)._shown(ring, places, ring.levels)
        assert shown[:39].all(), "rootlets of C2 always"
        seen.add((bool(shown[45, 25, 30]), bool(shown[45, 35, 30])))
    assert seen == {(True, True), (False, True), (False, False)}


def test_a_segmented_world_takes_the_labels_of_the_scan_to_its_own_grid() -> None:
    labels = np.zeros((48, 36, 36), np.uint8)
    labels[20:30, 18:20, 10:13] = 6
    result = segmented(replace(anatomy(), origin=(0.0, 2.0, 0.0)), labels)
    places = np.argwhere(result.levels.numpy() == 6) * 0.6 + [0, 2, 0]
    assert result.tissues is None
    assert np.allclose(places.mean(axis=0), [24.5, 18.5, 11], atol=0.2)
    volume = len(places) * 0.6**3
    assert abs(volume - 60) < 12
    assert set(result.levels.unique().tolist()) == {0, 6}


@pytest.mark.parametrize("subject", DISCS_BY_EYE)
def test_the_discs_marked_by_eye_are_those_of_the_template_from_head_to_tail(subject: str) -> None:
    marks = [tuple(map(int, mark.split(","))) for mark in DISCS_BY_EYE[subject].split()]
    heights = -np.diff([z for z, _ in marks])
    assert len(marks) == len(DISCS)
    assert heights.min() > 10
    assert heights.max() < 25


def test_rootlets_are_painted_between_cord_and_fluid_in_t2w() -> None:
    rng = np.random.default_rng(0)
    tissues = torch.zeros(4, 16, 16, 16)
    tissues[0, :, :, :6], tissues[1, :, :, 6:], tissues[3, :, 6:10, 9:13] = 1, 1, 1
    synthesizer = ImageSynthesizer(rng, (16, 16, 16), 0.8)
    image = synthesizer.painted(torch.zeros(16, 16, 16), tissues, tissues[[0, 2]], "T2w")
    fluid, rootlet = image[:, :4, 8:], image[:, 7:9, 10:12]
    assert float(rootlet.mean()) < float(fluid.mean())


def test_what_is_hidden_changes_the_surroundings_and_stays_finite() -> None:
    image = torch.rand(16, 16, 16)
    results = [
        ImageSynthesizer(np.random.default_rng(seed), (16, 16, 16), 3.0).hidden(image.clone())
        for seed in range(10)
    ]
    assert all(bool(result.isfinite().all()) for result in results)
    assert not any(torch.equal(result, image) for result in results)


def test_a_coarse_grid_shows_less_noise_than_a_fine_one() -> None:
    def noise(voxel_mm: float) -> float:
        synthesizers = (
            ImageSynthesizer(np.random.default_rng(seed), (12, 12, 12), voxel_mm, 1.0)
            for seed in range(40)
        )
        flat = [
            synthesizer.degraded(torch.full((12, 12, 12), 0.5), "T2w")
            for synthesizer in synthesizers
        ]
        return float(np.mean([float((image - image.mean()).diff(dim=2).std()) for image in flat]))

    assert noise(3.0) < 0.5 * noise(0.8)


def _scanned(limits_mm: tuple[float, float], image: torch.Tensor) -> list[torch.Tensor]:
    """Return an image as acquired by forty scanners whose voxels have sizes within limits."""
    synthesizers = [
        ImageSynthesizer(np.random.default_rng(seed), tuple(image.shape), 0.8, 1.0)
        for seed in range(40)
    ]
    return [synthesizer.acquired(image, "UNIT1", limits_mm) for synthesizer in synthesizers]


def test_noise_of_larger_voxels_is_alike_in_neighbors_after_resampling() -> None:
    def alike(limits_mm: tuple[float, float]) -> float:
        noises = [image - image.mean() for image in _scanned(limits_mm, torch.full((24,) * 3, 0.5))]
        return float(np.median([n.diff(dim=2).std() / n.std() for n in noises]))

    assert alike((1.3, 1.3)) < 0.8 * alike((0.5, 0.8))


def test_a_scan_of_larger_voxels_keeps_everything_in_its_place() -> None:
    sharp = torch.zeros(24, 24, 24)
    sharp[14:20, 4:8, 9:13] = 1
    moved = []
    for image in _scanned((1.0, 1.3), sharp):
        assert image.shape == sharp.shape
        halves = [float(part.min() + part.max()) / 2 for part in (sharp, image)]
        parts = [
            np.argwhere(part.numpy() > half)
            for part, half in zip((sharp, image), halves, strict=True)
        ]
        moved.append(parts[1].mean(axis=0) - parts[0].mean(axis=0))
    assert np.abs(np.median(moved, axis=0)).max() < 0.3


def test_a_scan_of_smaller_voxels_is_degraded_on_the_grid_of_the_case() -> None:
    image, compared = torch.rand(12, 12, 12), 0
    for seed in range(8):
        fine, same = (
            ImageSynthesizer(np.random.default_rng(seed), (12, 12, 12), 0.8, 1.0) for _ in range(2)
        )
        acquired = fine.acquired(image, "T2w", (0.5, 0.7))
        same.rng.uniform(0.5, 0.7)
        if same.rng.random() >= 0.3:  # else the size along one axis is drawn apart
            compared += 1
            assert torch.equal(acquired, same.degraded(image, "T2w"))
    assert compared > 3


def test_a_case_knows_how_far_its_rootlets_stand_out_of_the_noise() -> None:
    samples = [make(seed, family="T2w") for seed in range(6)]
    assert all(sample.contrast_to_noise > VISIBLE / 0.05 for sample in samples)
    assert len({sample.contrast_to_noise for sample in samples}) == 6
    bare = replace(SMALL, painted=0.0)
    assert make(1, settings=bare).contrast_to_noise == 0
    assert make(1, settings=bare).cord_contrast == 0
    assert all(0.3 < sample.cord_contrast < 1 for sample in samples)
    assert make(1, settings=replace(SMALL, acquired_mm=(1.3, 1.3))).contrast_to_noise > 0


def test_thick_slices_are_simulated_up_to_the_largest_size() -> None:
    sharp = (torch.arange(24) % 4 < 2).float()[:, None, None].expand(24, 24, 24)

    def detail(thickest_mm: float) -> float:
        synthesizers = (
            ImageSynthesizer(np.random.default_rng(seed), (24, 24, 24), 3.0, thickest_mm)
            for seed in range(60)
        )
        return min(float(synthesizer._blurred(sharp).std()) for synthesizer in synthesizers)

    assert detail(8.0) < 0.5 * detail(3.0)


def test_the_loss_of_the_locator_grows_with_the_number_of_levels_it_is_off() -> None:
    sample = make(4)
    off = [
        trainer.locator_loss(
            logits_for((sample.classes + shift * (sample.classes > 0)).clamp(max=10), 11), [sample]
        )
        for shift in (1, 3)
    ]
    assert float(off[1]) > float(off[0]) + 0.5


def test_doubt_below_the_levels_costs_less_than_doubt_about_a_level() -> None:
    def cost(level: int) -> float:
        sample = make(4)
        sample.classes[sample.classes == 4] = BELOW
        known = sample.classes.clone()
        known[sample.classes == level] = level - 1
        return float(trainer.locator_loss(logits_for(known, 11), [sample]))

    sizes = [int((make(4).classes == level).sum()) for level in (4, 5)]
    assert min(sizes) > 0
    assert cost(BELOW) / sizes[0] < cost(5) / sizes[1]


def test_throat_and_neck_slide_along_the_spine_and_the_spine_does_not() -> None:
    settings = replace(SMALL, shape=(32, 64, 24), voxel_mm=3.0, stretched_mm=1.0)
    maker = SampleMaker([(1.0, [anatomy()])], settings, 0)
    z, y, x = (
        part.float()
        for part in torch.meshgrid(*(torch.arange(n) for n in (40, 300, 60)), indexing="ij")
    )
    synthesizer = ImageSynthesizer(maker.rng, (40, 300, 60), 0.6)
    slid = maker._slid(anatomy(), [z, y - 120, x], synthesizer)
    reach_mm = (y - 120 - 30).abs() * 0.6
    assert float(slid[reach_mm < SPINE_MM].abs().max()) == 0
    front, back = slid[:, -1].mean(), slid[:, 0].mean()
    assert min(float(front.abs()), float(back.abs())) > 0
    assert not torch.isclose(front, back)


def test_the_canal_of_a_scan_without_mask_has_no_stray_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loader = Loader()
    monkeypatch.setattr(train, "load_network", loader)
    image = np.zeros((60, 80, 40), np.float32)  # the fake network takes intensities for classes
    image[:, 30:42, 14:26] = 5
    image[30:33, 70:73, 18:21] = 9
    found = train.canal_finder()(image)
    assert len(loader.networks) == 1
    assert bool(found[:, 34:38, 18:22].all())
    assert not found[:, 60:].any()


def test_nothing_is_labeled_outside_the_field_of_view() -> None:
    cut = SampleSettings((32, 24, 24), 0.8, (1.0, 1.0), away=0.0, painted=1.0, lost=1.0)
    for seed in range(5):
        sample = make(seed, cut)
        outside = sample.image == 0
        assert int((sample.levels[outside] > 0).sum()) == 0
        assert bool(outside.any())


def test_a_short_field_of_view_is_a_window_along_the_cord() -> None:
    synthesizer = ImageSynthesizer(np.random.default_rng(0), (80, 6, 6), 3.0)
    assert bool(synthesizer.field_of_view(0.0).all())
    starts = set()
    for _ in range(30):
        inside = synthesizer.field_of_view(0.0, 1.0)
        rows = inside.any(dim=2).any(dim=1)
        assert bool((inside == rows[:, None, None]).all())
        seen = np.flatnonzero(rows.numpy())
        assert len(seen) == seen[-1] - seen[0] + 1
        assert SHORT_MM[0] <= 3 * len(seen) <= SHORT_MM[1] + 3
        starts.add(int(seen[0]))
    assert len(starts) > 5


def test_coarser_anatomies_cover_the_same_space() -> None:
    fine = anatomy()
    coarse = coarser(fine, 1.5)
    assert np.allclose(
        np.array(coarse.image.shape) * coarse.voxel_mm, np.array(fine.image.shape) * 0.6, atol=1.5
    )
    assert set(coarse.classes.unique().tolist()) == {0, 4, 5, 6}


def logits_for(classes: torch.Tensor, n: int) -> torch.Tensor:
    return 20 * torch.nn.functional.one_hot(classes.long(), n).movedim(-1, 0).float()[None]


def test_the_losses_are_small_for_the_truth_and_large_for_its_opposite() -> None:
    sample = make(4)
    right = logits_for(sample.classes, 11)
    assert float(trainer.locator_loss(right, [sample])) < 0.01
    assert float(trainer.locator_loss(-right, [sample])) > 1
    right = logits_for(sample.levels > 0, 2)
    assert float(trainer.starter_loss(right, [sample])) < 0.05
    assert float(trainer.starter_loss(-right, [sample])) > 1


def test_a_negative_case_forbids_levels_and_allows_what_lies_below() -> None:
    sample = SampleMaker([(1.0, [anatomy(negative=True)])], SMALL, 0).make()
    below = torch.full_like(sample.classes, BELOW)
    level = torch.full_like(sample.classes, 5)
    assert float(trainer.locator_loss(logits_for(below, 11), [sample])) < 0.01
    assert float(trainer.locator_loss(logits_for(level, 11), [sample])) > 1


def run(out: Path, samples: Iterator[list[TrainingSample]]) -> Any:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    schedule = trainer.Schedule(steps=4, batch=1, rate=1e-2)
    training = trainer.Training(network, trainer.starter_loss, schedule=schedule, out=out)
    return training.run(samples if training.step == 0 else iter(list(samples)[training.step :]))


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SAVE_EVERY", 2)
    samples = [[make(seed)] for seed in range(4)]
    whole = run(tmp_path / "whole", iter(samples))
    with pytest.raises(StopIteration):
        run(tmp_path / "cut", iter(samples[:2]))
    resumed = run(tmp_path / "cut", iter(samples))
    assert torch.allclose(whole.weight, resumed.weight, atol=1e-6)
    assert len((tmp_path / "cut" / trainer.LOG).read_text().splitlines()) == 2


@pytest.mark.parametrize(("precision", "kind"), [("bf16", "bfloat16"), ("f32", "float32")])
def test_the_network_is_trained_in_the_precision_asked_for(
    tmp_path: Path, precision: str, kind: str
) -> None:
    seen = []
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    network.register_forward_hook(lambda _module, _input, output: seen.append(output.dtype))
    schedule = trainer.Schedule(steps=1, batch=1, rate=1e-2)
    training = trainer.Training(
        network, trainer.starter_loss, schedule=schedule, out=tmp_path, precision=precision
    )
    training.run(iter([[make(0)]]))
    assert seen == [getattr(torch, kind)]


def test_a_compiled_network_is_trained_through_what_was_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def compiled(network: Any) -> Any:
        return lambda x: used.append(x.shape) or network(x)

    monkeypatch.setattr(torch, "compile", compiled)
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    before = network.weight.detach().clone()
    schedule = trainer.Schedule(steps=2, batch=1, rate=1e-2)
    training = trainer.Training(
        network, trainer.starter_loss, schedule=schedule, out=tmp_path, compiled=True
    )
    training.run(iter([[make(0)], [make(1)]]))
    assert len(used) == 2
    assert not torch.equal(before, network.weight)


def test_batches_go_on_with_the_cases_of_their_step() -> None:
    schedule = trainer.Schedule(steps=3, batch=1, rate=1.0)

    def maker(step: int) -> SampleMaker:
        return SampleMaker([(1.0, [anatomy()])], SMALL, step)

    whole = trainer.batches(maker, schedule, 0)
    later = trainer.batches(maker, schedule, 1)
    next(whole)
    assert torch.equal(next(whole)[0].image, next(later)[0].image)


@pytest.mark.parametrize("model", ["locator", "starter"])
def test_written_folders_run_in_the_package_and_keep_their_size(model: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = trainer.build_network(model).eval()
    folder = read_model_folder(trainer.write_folder(network, model, tmp_path))
    assert folder.checkpoints[0].stat().st_size < {"locator": 3e6, "starter": 10e6}[model]
    ours = load_network(folder, Options(engine="openvino", device="cpu"))
    spacing = folder.configuration["spacing"]
    shape = folder.configuration["patch_size"]
    volume = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    got = ours.predict(volume, spacing, None)
    with torch.no_grad():
        scaled = (volume - volume.mean()) / volume.std()
        wanted = network(torch.from_numpy(scaled)[None, None])[0].argmax(0).numpy()
    assert np.mean(got == wanted) > 0.98


def test_averaged_weights_lie_halfway(tmp_path: Path) -> None:
    networks = [trainer.build_network("locator") for _ in range(3)]
    folders = [tmp_path / name for name in ("a", "b")]
    for network, folder in zip(networks, folders, strict=False):
        trainer.write_folder(network, "locator", folder)
    trainer.load_weights(networks[2], average("locator", folders, tmp_path / "mean"))
    first, second, mean = (dict(network.named_parameters()) for network in networks)
    for name, value in mean.items():
        assert torch.allclose(value, (first[name] + second[name]) / 2, atol=1e-3)


def test_less_is_in_the_way_of_the_same_anatomy() -> None:
    changed = np.zeros((12, len(limits.SYNTHESIZERS) - 1), bool)
    for seed, row in enumerate(changed):
        cases = [
            SampleMaker([(1.0, [anatomy()])], SMALL, seed, synthesizer=synthesizer).make("T2w")
            for synthesizer in limits.SYNTHESIZERS.values()
        ]
        for number, (before, after) in enumerate(pairwise(cases)):
            assert torch.equal(before.levels, after.levels)
            row[number] = not torch.equal(before.image, after.image)
    noise, blur, thin = changed.mean(axis=0)
    assert noise == thin == 1.0
    assert 0.3 < blur < 1.0, "not all cases are blurred"


def test_the_table_of_limits_has_a_column_for_the_free_cases_whose_cord_is_seen() -> None:
    rows = [
        {"what": what, "family": family, "binary Dice": dice, "macro Dice": None}
        for what in (*limits.SYNTHESIZERS, limits.RESAMPLED, limits.MOVED)
        for family, dice in (("free", 0.2), ("free", 0.6), (evaluate.CORD_SEEN, 0.6))
    ]
    table = list(limits.table(rows))
    assert table[0] == {"what": "cases", "Dice": "", "free": 2, evaluate.CORD_SEEN: 1}
    assert table[1]["free"] == pytest.approx(0.4)
    assert table[1][evaluate.CORD_SEEN] == 0.6
    assert table[2]["free"] is None
    assert len(table) == 1 + 2 * 6


def test_levels_at_the_vertebrae_change_nothing_else_of_a_case() -> None:
    shifts = []
    for seed in range(12):
        case, still = (
            maker([(1.0, [anatomy()])], SMALL, seed).make("T2w")
            for maker in (SampleMaker, limits.Unshifted)
        )
        assert case.contrast_to_noise == still.contrast_to_noise
        assert torch.equal(case.image == 0, still.image == 0), "another field of view"
        middles = [np.mean(np.nonzero((c.levels == 5).numpy())[0]) for c in (case, still)]
        shifts.append((middles[0] - middles[1]) * SMALL.voxel_mm)
    assert 0.5 < np.std(shifts) < 5


def test_the_table_of_the_locator_counts_every_voxel_alike() -> None:
    def errors(*steps: int) -> evaluate.LevelErrors:
        return evaluate.LevelErrors(np.array(steps), np.array(steps) / 2, 1.0)

    whats = (limits.AS_EVALUATED, limits.BY_VERTEBRAE, limits.EXACT)
    cases = [errors(2), errors(0, 0, 0)]
    rows = [{"family": "T2w", "errors": dict.fromkeys(whats, found)} for found in cases]
    count, mean, most, *others = limits.locator_table(rows)
    assert count == {"what": "cases", "levels": "", "T2w": 2, "all": 2}
    assert mean["T2w"] == mean["all"] == 0.5
    assert most["all"] == pytest.approx(0.85), "of 0, 0, 0 and 1"
    assert [row["what"] for row in others] == [limits.BY_VERTEBRAE] * 2 + [limits.EXACT] * 2


def test_the_truth_itself_agrees_less_once_it_is_moved_or_resampled() -> None:
    levels = np.zeros((20, 20, 40), np.uint8)
    levels[8:10, 8:11, 5:20], levels[8:10, 8:11, 20:35] = 3, 4
    for changed in (limits._there_and_back(levels), limits._moved(levels)):
        assert changed.shape == levels.shape
        assert set(np.unique(changed)) == {0, 3, 4}
        both = np.sum((changed > 0) & (levels > 0))
        assert 0.5 < 2 * both / (np.sum(changed > 0) + np.sum(levels > 0)) < 1


def test_a_widened_network_computes_the_same_and_can_learn_with_its_new_features() -> None:
    networks = [_unet(features) for features in ((4, 6, 9), (7, 8, 16))]
    weights = [{n: v.numpy() for n, v in net.state_dict().items()} for net in networks]
    wide = {name: torch.from_numpy(v) for name, v in widened(*weights).items()}
    networks[1].load_state_dict(wide)
    narrow, other = (net(torch.randn(1, 1, 16, 16, 16, generator=_seed(3))) for net in networks)
    assert torch.allclose(narrow, other, atol=1e-4)
    other.square().mean().backward()
    silent = [
        name
        for name, value in networks[1].named_parameters()
        if ".conv.weight" in name and not value.grad[:, -1].any()
    ]
    assert narrow.detach().std() > 0.1
    assert not silent, "the weights for a new feature never change"


def test_a_network_cannot_be_widened_into_a_narrower_one() -> None:
    weights = [{"norm.bias": np.zeros(size, np.float32)} for size in (8, 6)]
    with pytest.raises(
        ValueError, match=r"norm.bias to be at most of the shape \(6,\), found \(8,\)"
    ):
        widened(*weights)


def test_the_card_tells_the_number_and_the_checksum_of_the_weights_in_the_package() -> None:
    card = json.loads((Path(__file__).parents[1] / "model_card.json").read_text("utf-8"))
    starter = next(model for model in card["models"] if model["tag"] == "starter")
    for network in starter["networks"]:
        assert network == {**network, **weights_of(network["name"])}
    for name in ("locator", "starter"):
        count = sum(p.numel() for p in trainer.build_network(name).parameters())
        assert weights_of(name)["parameters_millions"] == {"value": round(count / 1e6, 1)}


def _seed(number: int) -> Any:
    return torch.Generator().manual_seed(number)


def _unet(features: tuple[int, ...]) -> Any:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from torch import nn

    torch.manual_seed(len(features) + features[0])
    stages = len(features)
    return PlainConvUNet(
        1, stages, features, nn.Conv3d, 3, [1, *[2] * (stages - 1)], 2, 3, 2, True,
        nn.InstanceNorm3d, {"affine": True}, None, None, nn.LeakyReLU, {},
    )  # fmt: skip


def test_voxels_count_as_near_up_to_a_diagonal_step() -> None:
    some, others = np.zeros((2, 9, 9, 9), bool)
    others[4, 4, 4] = True
    some[5, 5, 5] = some[4, 4, 7] = True
    assert evaluate._near_share(some, others) == 0.5
    assert evaluate._near_share(some & False, others) is None


def test_the_template_is_tied_to_discs_smoothly_and_goes_on_beyond_them() -> None:
    z = np.arange(0, 220, 0.25)
    line = np.stack([z, 100 + 10 * np.sin(z / 60), np.full_like(z, 20)], axis=1)
    discs = np.array([190, 172, 157, 138, 121, 104, 84, 60])
    places = np.stack([discs, np.interp(discs, line[:, 0], line[:, 1]) + 10], axis=1)
    slices = _slices_along(line, places, np.array(DISCS, float))
    for place, disc in zip(places, DISCS, strict=True):
        nearest = np.linalg.norm(line[:, :2] - place, axis=1).argmin()
        assert slices[nearest] == pytest.approx(disc, abs=0.5)
    steps = np.diff(slices)
    assert steps.min() > 0
    arcs = np.linalg.norm(np.diff(line, axis=0), axis=1)
    slope = (DISCS[0] - DISCS[-1]) / arcs[(z[1:] > 60) & (z[1:] < 190)].sum()
    assert steps[-20:].mean() == pytest.approx(slope * arcs[-20:].mean(), rel=0.2)
    assert steps[:20].mean() == pytest.approx(slope * arcs[:20].mean(), rel=0.2)


@pytest.mark.data
@pytest.mark.parametrize("by_points", [True, False])
def test_a_hybrid_has_the_template_at_its_landmarks(shared_data: Path, by_points: bool) -> None:
    import nibabel as nib

    template = load_template(shared_data)
    made = hybrid(template, shared_data, "errsm18", by_points=by_points)
    marks = nib.as_closest_canonical(
        nib.load(shared_data / "t2w" / "sub-errsm18_T2w_landmarks-C2T2.nii.gz")
    )
    for value, wanted in ((2, 3), (9, BELOW)):
        z = np.argwhere(np.asarray(marks.dataobj) == value)[0][2]
        row = round((z - made.origin[0]) / made.voxel_mm)
        near = made.classes[row - 6 : row + 7].flatten()
        found = near[(near > 0) & (near != UNKNOWN)]
        assert int(found.mode().values) == wanted
    assert {*range(2, 10)} <= set(made.levels.unique().tolist())
    assert LOCATOR.voxel_mm > STARTER.voxel_mm > made.voxel_mm


def test_cases_whose_rootlets_drown_in_noise_count_in_their_family_but_not_among_the_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    families = list(FAMILIES)

    def one(judge: Any, number: int) -> dict[str, Any]:
        steps, along = np.array([number % 2]), np.array([number / 10])
        names = ("binary Dice", "macro Dice", "right level", "midpoint error mm")
        near = ("found within a voxel", "true within a voxel")
        return {
            "family": families[number % len(families)],
            "contrast to noise": evaluate.CLEAR - (number < len(families)),
            "cord contrast": VISIBLE / 2 if number >= len(families) else VISIBLE,
            "errors": evaluate.LevelErrors(steps, along, 1.0),
            "errors of a part": evaluate.LevelErrors(steps + 1, along[:0], number / 20),
            **dict.fromkeys((*names, *near), number / 10),
            "wrong": number % 3 == 0, "warned": number % 2 == 0,
        }  # fmt: skip

    monkeypatch.setattr(evaluate, "_synthetic_case", one)
    judge = evaluate.Judge(Path(), Path(), evaluate.ByLocator())
    rows = {row["family"]: row for row in evaluate.synthetic(judge, 2 * len(families))}
    seen = evaluate.CORD_SEEN
    assert list(rows) == [*families, "all", "free, clear", "all, clear", seen]
    last = families.index("free")
    assert {name: row["cases"] for name, row in rows.items()} == {
        **dict.fromkeys(families, 2), "all": 2 * len(families), "free, clear": 1,
        "all, clear": len(families), seen: 1,
    }  # fmt: skip
    assert rows[seen]["binary Dice"] == pytest.approx(last / 10)
    assert rows["free"]["binary Dice"] == pytest.approx(last / 10 + len(families) / 20)
    assert rows["free, clear"]["binary Dice"] == pytest.approx((last + len(families)) / 10)
    assert rows["all"]["level error of a part, mean"] == pytest.approx(1.5)
    counts = ("cases with wrong levels", "of these without a warning", "cases with a warning")
    assert [rows["all"][name] for name in counts] == [4, 2, 5]
    assert rows["free, clear"]["canal of a part found"] == pytest.approx(
        (last + len(families)) / 20
    )


@pytest.mark.parametrize("number", range(30))
@pytest.mark.parametrize(("first", "end"), [(30, 200), (0, 232), (100, 130), (215, 232)])
def test_a_short_field_of_view_lies_where_levels_are(number: int, first: int, end: int) -> None:
    classes = np.zeros((4, 4, 232), np.uint8)
    classes[2, 2, first:end] = 5
    window = evaluate.short_window(classes, number)
    low, high = (limit / evaluate.WHOLE.voxel_mm for limit in evaluate.SHORT_MM)
    assert 0 <= window.start < window.stop <= 232
    assert low - 1 <= window.stop - window.start <= high + 1
    assert window == evaluate.short_window(classes, number)
    assert (classes[:, :, window] == 5).any()
    if end - first > high:
        assert window.start >= first - 10
        assert window.stop <= end + 10


def test_each_choice_changes_something_there_is() -> None:
    known = {field.name for field in fields(evaluate.ByLocator)}
    assert known >= choices.SOURCE
    changed = [name for change in choices.CHOICES.values() for name in change]
    assert all(name in choices.SOURCE or hasattr(boundary_refinement, name) for name in changed)
    assert next(iter(choices.CHOICES.values())) == {}


def test_a_choice_does_not_outlive_its_case() -> None:
    before = boundary_refinement.LONGEST_MM
    with choices._constants({"LONGEST_MM": 3.0}):
        assert boundary_refinement.LONGEST_MM == 3.0
    assert before == boundary_refinement.LONGEST_MM


def test_the_figures_of_choices_are_over_the_cases_with_rootlets() -> None:
    cases = [
        [{"choice": name, "right": right, "warned": warned} for name in ("one", "other")]
        for right, warned in ((1.0, False), (0.0, True), (0.5, False), (None, True))
    ]
    one, other = choices.summary(cases)
    assert list(one.values()) == ["one", 3, 50.0, 2, 1, 1]
    assert list(other.values())[1:] == list(one.values())[1:]


def test_the_cases_of_choices_are_others_than_those_of_the_evaluation() -> None:
    chosen = choices.seeds(350)
    assert len(set(chosen)) == 350
    assert choices.seeds(70)[-1] == (9600, 9)
    assert evaluate.SEED not in {seed for seed, _ in chosen}
