"""The runner draws what was asked, tells each step, stops when told, and says how it was done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobs.runners import runner_for
from jobs.runners.base import BadInput, Cancelled, OutOfMemory, ProgressReport, RunResult
from jobs.runners.text_to_image import TextToImage, device_errors, fit, nearest_drawable, weights_digest
from tests.jobs.runners.conftest import TINY

COLOURS = ("red", "green", "blue", "yellow", "orange", "purple")
SHAPES = ("circle", "square", "triangle", "star")
SEEDS = (0, 1, 2, 3) if os.environ.get("TALLYSTICK_TEST_FULL") else (0,)

Judge = Callable[[Image.Image], tuple[str, str]]


def draw(
    runner: TextToImage, workdir: Path, *, cancelled: Callable[[], bool] = lambda: False, **inputs: Any
) -> tuple[RunResult, list[ProgressReport]]:
    """Run with whatever inputs a client might give, and keep the reports."""
    reports: list[ProgressReport] = []
    normal = runner.schema.normalise({"prompt": "a red circle", "seed": 1, "steps": 4, **inputs})
    return runner.run(normal, reports.append, workdir=workdir, cancelled=cancelled), reports


def pixels(result: RunResult, n: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(result.outputs[n].path) as picture:
        return np.asarray(picture)


def test_every_shape_in_every_colour_is_drawn_as_asked(tiny: TextToImage, judge: Judge, tmp_path: Path) -> None:
    wrong = []
    for seed in SEEDS:
        for colour in COLOURS:
            for shape in SHAPES:
                result, _ = draw(tiny, tmp_path, prompt=f"a {colour} {shape}", seed=seed, steps=15)
                with Image.open(result.outputs[0].path) as picture:
                    seen = judge(picture)
                if seen != (colour, shape):
                    wrong.append(f"a {colour} {shape}, seed {seed}: {' '.join(seen)}")
    asked = len(SEEDS) * len(COLOURS) * len(SHAPES)
    assert len(wrong) <= 0.05 * asked, wrong


@pytest.mark.parametrize(
    ("prompt", "seen"),
    [
        ("Red Circle", ("red", "circle")),
        ("A picture of a BLUE star.", ("blue", "star")),
        ("please draw me a green square", ("green", "square")),
        ("a triangle in purple", ("purple", "triangle")),
        ("show me a beautiful yellow star", ("yellow", "star")),
    ],
)
def test_people_may_ask_in_their_own_words(
    tiny: TextToImage, judge: Judge, tmp_path: Path, prompt: str, seen: tuple[str, str]
) -> None:
    result, _ = draw(tiny, tmp_path, prompt=prompt, steps=15)
    with Image.open(result.outputs[0].path) as picture:
        assert judge(picture) == seen


@pytest.mark.parametrize("prompt", ["é", "漢字", "🦊 " * 300, "x" * 2000, "<|endoftext|>"])
def test_a_prompt_of_words_it_never_read_still_gives_a_picture(tiny: TextToImage, tmp_path: Path, prompt: str) -> None:
    result, _ = draw(tiny, tmp_path, prompt=prompt, steps=2)
    assert pixels(result).shape == (64, 64, 3)


def test_the_same_seed_gives_the_same_picture_and_another_seed_another(tiny: TextToImage, tmp_path: Path) -> None:
    first, again, other = (pixels(draw(tiny, tmp_path, seed=seed)[0]) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_seed_that_was_not_given_is_chosen_and_repeats_the_picture(tiny: TextToImage, tmp_path: Path) -> None:
    open_inputs: dict[str, Any] = {"prompt": "a red circle", "steps": 3}
    normal = tiny.schema.normalise(open_inputs)
    first, second = (tiny.run(normal, lambda _: None, workdir=tmp_path) for _ in range(2))
    assert first.facts["seed"] != second.facts["seed"]
    drawn = pixels(second)
    assert np.array_equal(drawn, pixels(draw(tiny, tmp_path, **open_inputs, seed=second.facts["seed"])[0]))


def test_the_largest_seed_draws_even_several_pictures(tiny: TextToImage, tmp_path: Path) -> None:
    result, _ = draw(tiny, tmp_path, count=2, seed=2**53 - 1, steps=1)
    assert result.facts["seed"] == 2**53 - 1


def test_seeds_that_agree_in_their_lowest_32_bits_draw_alike(tiny: TextToImage, tmp_path: Path) -> None:
    near, far = (pixels(draw(tiny, tmp_path, seed=seed)[0]) for seed in (3, 3 + 2**32))
    assert np.array_equal(near, far)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_each_step_is_reported_once_and_in_order(tiny: TextToImage, tmp_path: Path, steps: int) -> None:
    result, reports = draw(tiny, tmp_path, steps=steps)
    assert reports == [ProgressReport(n + 1, steps) for n in range(steps)]
    assert result.facts["steps"] == steps


def test_several_pictures_are_those_of_the_following_seeds(tiny: TextToImage, tmp_path: Path) -> None:
    result, reports = draw(tiny, tmp_path, count=3, seed=7)
    assert [output.name for output in result.outputs] == ["picture-1.png", "picture-2.png", "picture-3.png"]
    assert [report.step for report in reports] == list(range(1, 13))
    assert {report.steps for report in reports} == {12}
    for n, seed in enumerate((7, 8, 9)):
        assert np.array_equal(pixels(result, n), pixels(draw(tiny, tmp_path, seed=seed)[0]))


def test_a_cancelled_run_ends_within_one_step_and_writes_nothing(tiny: TextToImage, tmp_path: Path) -> None:
    reports: list[ProgressReport] = []
    normal = tiny.schema.normalise({"prompt": "a red circle", "steps": 50})
    with pytest.raises(Cancelled) as caught:
        tiny.run(normal, reports.append, workdir=tmp_path, cancelled=lambda: len(reports) >= 3)
    assert len(reports) <= 4
    assert not caught.value.may_pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_cancelled_beforehand_takes_no_step(tiny: TextToImage, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        tiny.run(
            tiny.schema.normalise({"prompt": "a red circle"}),
            lambda report: pytest.fail(f"took {report}"),
            workdir=tmp_path,
            cancelled=lambda: True,
        )


def test_a_runner_draws_on_after_a_cancelled_run(tiny: TextToImage, tmp_path: Path) -> None:
    before = pixels(draw(tiny, tmp_path)[0])
    with pytest.raises(Cancelled):
        draw(tiny, tmp_path, seed=9, steps=9, cancelled=lambda: True)
    assert np.array_equal(before, pixels(draw(tiny, tmp_path)[0]))


def test_guidance_and_negative_prompt_reach_the_model(tiny: TextToImage, tmp_path: Path) -> None:
    plain = pixels(draw(tiny, tmp_path)[0])
    strict = pixels(draw(tiny, tmp_path, guidance="7.5")[0])
    turned = pixels(draw(tiny, tmp_path, negative_prompt="a blue star")[0])
    assert not np.array_equal(plain, strict)
    assert not np.array_equal(plain, turned)


def test_a_size_it_can_not_draw_is_scaled_and_said_so(tiny: TextToImage, judge: Judge, tmp_path: Path) -> None:
    result, _ = draw(tiny, tmp_path, width=512, height=512, steps=15)
    facts = result.facts
    assert (facts["width"], facts["height"], facts["drawn_width"], facts["drawn_height"]) == (512, 512, 64, 64)
    with Image.open(result.outputs[0].path) as picture:
        assert picture.size == (512, 512)
        assert judge(picture) == ("red", "circle")


@pytest.mark.parametrize(("width", "height"), [(384, 128), (128, 384), (16, 16), (2048, 16)])
def test_any_size_is_met_and_the_shape_keeps_its_proportions(
    tiny: TextToImage, tmp_path: Path, width: int, height: int
) -> None:
    def extent(**size: Any) -> tuple[float, float]:
        seen = pixels(draw(tiny, tmp_path, steps=15, **size)[0]).astype(int)
        assert seen.shape == (size.get("height", 64), size.get("width", 64), 3)
        rows, columns = np.nonzero(np.abs(seen - seen[0, 0]).sum(axis=-1) > 150)
        return float(np.ptp(rows)), float(np.ptp(columns))

    scale = min(width, height) / 64
    assert extent(width=width, height=height) == pytest.approx([side * scale for side in extent()], abs=3)


def test_a_picture_holds_pixels_and_nothing_else(tiny: TextToImage, tmp_path: Path) -> None:
    result, _ = draw(tiny, tmp_path)
    (output,) = result.outputs
    assert output.path.parent == tmp_path
    assert output.mime == "image/png"
    data = output.path.read_bytes()
    kinds, at = [], 8
    while at < len(data):
        kinds.append(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4])
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


def test_the_facts_are_text_and_integers_and_name_all_that_decided_the_picture(
    tiny: TextToImage, tmp_path: Path
) -> None:
    facts = draw(tiny, tmp_path, guidance="7.50")[0].facts
    assert {type(value) for value in facts.values()} == {int, str}
    assert facts.pop("device")
    if torch.cuda.is_available():
        assert int(facts.pop("gpu_ms")) > 0
    assert facts == {
        "seed": 1,
        "steps": 4,
        "guidance": "7.5",
        "width": 64,
        "height": 64,
        "drawn_width": 64,
        "drawn_height": 64,
        "model": "tiny-shapes",
        "model_digest": weights_digest(TINY),
        "torch": torch.__version__,
        "diffusers": facts["diffusers"],
        "threads": torch.get_num_threads(),
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="a host without a GPU is what this is about")
def test_a_cpu_never_says_gpu(tiny: TextToImage, tmp_path: Path) -> None:
    facts = draw(tiny, tmp_path)[0].facts
    assert "gpu_ms" not in facts
    assert str(facts["device"]).startswith("CPU")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_is_named_and_its_time_is_measured_on_it(tiny: TextToImage, tmp_path: Path) -> None:
    short, long = (draw(tiny, tmp_path, steps=steps)[0].facts for steps in (10, 100))
    assert short["device"] == torch.cuda.get_device_name()
    assert 0 < int(short["gpu_ms"]) < int(long["gpu_ms"])


def test_a_run_before_the_setup_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    runner = runner_for("text-to-image").make("tiny-shapes", str(TINY))
    with pytest.raises(RuntimeError, match="setup"):
        runner.run({"prompt": "x"}, lambda _: None, workdir=tmp_path)


def test_a_full_memory_may_pass_and_any_other_error_stays_itself() -> None:
    with pytest.raises(OutOfMemory) as caught, device_errors("CPU"):
        torch.empty(2**60, dtype=torch.uint8)
    assert caught.value.may_pass
    with pytest.raises(RuntimeError, match="shape"), device_errors("CPU"):
        torch.zeros(2) @ torch.zeros(3, 3)


OWN = st.sampled_from([(256, 256), (512, 512), (1024, 1024), (768, 512)])
SIDE = st.integers(2, 256).map(lambda n: n * 8)


@given(st.tuples(SIDE, SIDE), OWN, st.sampled_from([8, 16]))
def test_a_general_model_is_asked_for_sides_from_half_to_twice_its_own(
    asked: tuple[int, int], own: tuple[int, int], grain: int
) -> None:
    drawn = nearest_drawable(asked, own=own, grain=grain)
    assert all(min(own) // 2 <= side <= max(own) * 2 for side in drawn)
    assert all(side % grain == 0 for side in drawn)
    if grain == 8 and all(min(own) // 2 <= side <= max(own) * 2 for side in asked):
        assert drawn == asked


@given(st.tuples(SIDE, SIDE))
def test_a_small_model_is_asked_for_its_own_size_alone(asked: tuple[int, int]) -> None:
    assert nearest_drawable(asked, own=(64, 64), grain=4) == (64, 64)


@given(st.tuples(st.integers(1, 80), st.integers(1, 80)), st.tuples(st.integers(1, 80), st.integers(1, 80)))
def test_a_fitted_picture_has_the_size_asked(drawn: tuple[int, int], asked: tuple[int, int]) -> None:
    assert fit(Image.new("RGB", drawn, (10, 20, 30)), asked).size == asked


def test_what_is_added_around_a_picture_has_its_background() -> None:
    picture = Image.new("RGB", (8, 8), (200, 210, 220))
    picture.putpixel((4, 4), (0, 0, 0))
    assert fit(picture, (32, 8)).getpixel((0, 0)) == (200, 210, 220)


def test_a_negative_prompt_is_refused_by_a_model_that_takes_none(consistency: TextToImage, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        draw(consistency, tmp_path, negative_prompt="a star")
    assert caught.value.field == "negative_prompt"


def test_a_pipeline_of_another_class_draws_too(consistency: TextToImage, tmp_path: Path) -> None:
    result, reports = draw(consistency, tmp_path)
    assert reports[-1] == ProgressReport(4, 4)
    assert pixels(result).shape == (64, 64, 3)


def test_a_general_model_draws_the_size_asked(general: TextToImage, tmp_path: Path) -> None:
    facts = draw(general, tmp_path, width=320, height=192, steps=1)[0].facts
    assert (facts["drawn_width"], facts["drawn_height"]) == (320, 192)
    facts = draw(general, tmp_path, width=32, height=64, steps=1)[0].facts
    assert (facts["width"], facts["height"], facts["drawn_width"], facts["drawn_height"]) == (32, 64, 128, 256)


def test_a_schedule_that_takes_a_step_more_than_asked_says_so(general: TextToImage, tmp_path: Path) -> None:
    result, reports = draw(general, tmp_path, width=128, height=128, steps=4)
    assert reports == [ProgressReport(n + 1, 5) for n in range(5)]
    assert result.facts["steps"] == 4
