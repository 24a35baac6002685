"""A model is known by its digest, and one that would run code of its own is never loaded."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.runners.base import ModelUnusable
from jobs.runners.text_to_image import TextToImage, weights_digest
from tests.jobs.runners.conftest import TINY


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a copy of the committed model that a test may spoil."""
    return shutil.copytree(TINY, tmp_path / "copy")


def refused(folder: Path | str) -> str:
    with pytest.raises(ModelUnusable) as caught:
        TextToImage("mallorys", str(folder)).setup()
    assert not caught.value.may_pass
    return caught.value.rule


def test_a_copy_has_the_same_digest_wherever_it_lies(copy: Path) -> None:
    assert weights_digest(copy) == weights_digest(TINY)


@pytest.mark.parametrize(
    "part",
    [
        "model_index.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer.json",
    ],
)
def test_a_changed_byte_in_whatever_decides_the_picture_changes_the_digest(copy: Path, part: str) -> None:
    data = bytearray((copy / part).read_bytes())
    if part.endswith(".json"):
        data += b" "
    else:
        data[len(data) // 2] ^= 1
    (copy / part).write_bytes(data)
    assert weights_digest(copy) != weights_digest(TINY)


def test_a_swap_of_two_files_changes_the_digest(copy: Path) -> None:
    one, other = copy / "unet/config.json", copy / "vae/config.json"
    texts = one.read_bytes(), other.read_bytes()
    other.write_bytes(texts[0])
    one.write_bytes(texts[1])
    assert weights_digest(copy) != weights_digest(TINY)


def test_a_changed_model_card_is_the_same_model(copy: Path) -> None:
    (copy / "README.md").write_text("another text\n")
    assert weights_digest(copy) == weights_digest(TINY)


def test_a_model_of_pickles_alone_is_refused(copy: Path) -> None:
    (copy / "unet/diffusion_pytorch_model.safetensors").rename(copy / "unet/diffusion_pytorch_model.bin")
    assert refused(copy) == "has nothing but pickled weights in unet/"


def test_pickles_beside_the_weights_are_not_read(copy: Path) -> None:
    (copy / "unet/diffusion_pytorch_model.bin").write_bytes(b"no pickle at all")
    TextToImage("tiny-shapes", str(copy)).setup()


def bring_pipeline_class(folder: Path) -> Path:
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = ["own", "Own"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder / "own.py"


def bring_pipeline_called_none(folder: Path) -> Path:
    return folder / "None.py"


def bring_component_class(folder: Path) -> Path:
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["own", "Own"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder / "unet" / "own.py"


@pytest.mark.parametrize("bring", [bring_pipeline_class, bring_pipeline_called_none, bring_component_class])
def test_a_model_that_brings_code_is_refused_and_its_code_never_runs(copy: Path, bring: object) -> None:
    assert callable(bring)
    ran = copy / "ran"
    bring(copy).write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()\nclass Own: pass\n")
    assert "of its own" in refused(copy)
    assert not ran.exists()


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    assert "model_index.json" in refused(tmp_path)
    (tmp_path / "model_index.json").write_text("[]")
    assert "no object" in refused(tmp_path)


def test_spoilt_weights_are_refused(copy: Path) -> None:
    weights = copy / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert refused(copy).startswith("can't be loaded")


def test_a_component_that_is_missing_is_refused(copy: Path) -> None:
    shutil.rmtree(copy / "vae")
    assert refused(copy).startswith("can't be loaded")


@pytest.mark.parametrize("reference", ["/nowhere/at/all", "./nowhere", "~/model", "name", "a/b/c", ""])
def test_what_is_neither_folder_nor_hub_id_is_refused(reference: str) -> None:
    assert refused(reference) == "is neither a folder nor a hub id (owner/name)"


def test_a_pipeline_that_takes_no_text_is_refused(tmp_path: Path) -> None:
    library: Any = importlib.import_module("diffusers")
    unet = library.UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )
    library.DDPMPipeline(unet, library.DDPMScheduler()).save_pretrained(tmp_path)
    assert refused(tmp_path) == "is a DDPMPipeline, which draws no text step by step"
