from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.runners import catalogue
from jobs.runners.text_to_image import TextToImage

if TYPE_CHECKING:
    from PIL import Image

TINY = Path(catalogue.OURS["tiny-shapes"])


@pytest.fixture(scope="session")
def tiny() -> TextToImage:
    """Give the committed model, loaded once for all tests."""
    return set_up("tiny-shapes", TINY)


@pytest.fixture(scope="session")
def general(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    """Give a model that draws many sizes, as large ones do: untrained, of 256 px, on a PNDM schedule."""
    folder = tmp_path_factory.mktemp("general")
    save_variant(folder, "StableDiffusionPipeline", "PNDMScheduler", {"sample_size": 64}, skip_prk_steps=True)
    return set_up("general", folder)


@pytest.fixture(scope="session")
def consistency(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    """Give a latent consistency model, which takes no negative prompt: another pipeline class, untrained."""
    folder = tmp_path_factory.mktemp("consistency")
    save_variant(folder, "LatentConsistencyModelPipeline", "LCMScheduler", {"time_cond_proj_dim": 16})
    return set_up("consistency", folder)


def save_variant(folder: Path, pipeline: str, schedule: str, unet: dict[str, int], **scheduling: bool) -> None:
    """Save a pipeline of other classes, with an untrained U-Net and the other parts of the committed model."""
    library: Any = importlib.import_module("diffusers")
    parts = library.DiffusionPipeline.from_pretrained(TINY).components
    parts["unet"] = library.UNet2DConditionModel.from_config(parts["unet"].config | unet)
    parts["scheduler"] = getattr(library, schedule)(steps_offset=1, **scheduling)
    getattr(library, pipeline)(**parts, requires_safety_checker=False).save_pretrained(folder)


def set_up(name: str, folder: Path) -> TextToImage:
    """Load a model."""
    runner = TextToImage(name, str(folder))
    runner.setup()
    return runner


@pytest.fixture(scope="session")
def judge() -> Callable[[Image.Image], tuple[str, str]]:
    """Give the judge that the training script itself uses: it names a picture's colour and shape."""
    spec = importlib.util.spec_from_file_location("tiny_shapes", TINY / "shapes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_shapes"] = module
    spec.loader.exec_module(module)
    found: Callable[[Image.Image], tuple[str, str]] = module.judge
    return found
