"""Draw a picture of what a text says, with any diffusers text-to-image pipeline.

A run is: plan the size, then for each picture: noise, denoise step by step, decode, fit, write.
Pictures of one run are drawn one after the other, not as one batch: so picture n is, bit for bit, what a run of its
own with its own seed would give, and whoever checks a single picture need not repeat the others.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import platform
import secrets
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from jobs.runners.base import (
    MAX_SAFE_INTEGER,
    BadInput,
    Cancelled,
    Field,
    Inputs,
    InputSchema,
    ModelUnusable,
    OutOfMemory,
    Output,
    ProgressReport,
    Report,
    RunnerError,
    RunnerSpec,
    RunResult,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

SCHEMA = InputSchema(
    (
        Field(
            name="prompt",
            type="text",
            help="What the picture should show.",
            required=True,
            minimum=1,
            maximum=2000,
        ),
        Field(
            name="negative_prompt",
            type="text",
            help="What the picture should not show. Not every model takes one.",
            minimum=0,
            maximum=2000,
        ),
        Field(name="steps", type="integer", help="Denoising steps.", default=15, minimum=1, maximum=1000),
        Field(
            name="guidance",
            type="decimal",
            help="How strictly the picture follows the prompt.",
            default="3",
            minimum="0",
            maximum="30",
        ),
        Field(
            name="width",
            type="integer",
            help="Width in pixels. Left out: the model's own. A model that can't draw it draws its own and scales.",
            minimum=16,
            maximum=2048,
            multiple_of=8,
        ),
        Field(
            name="height",
            type="integer",
            help="Height in pixels, likewise.",
            minimum=16,
            maximum=2048,
            multiple_of=8,
        ),
        Field(
            name="seed",
            type="integer",
            help="Where the noise starts: the same seed gives the same picture. Left out: chosen, and reported.",
            minimum=0,
            maximum=MAX_SAFE_INTEGER,
        ),
        Field(
            name="count",
            type="integer",
            help="How many pictures; the n-th after the first has seed + n.",
            default=1,
            minimum=1,
            maximum=4,
        ),
    )
)

DRAWN_SMALL = 256
"""A model whose own side is below this was made for one size, and draws nonsense at any other."""

WEIGHTS = ".safetensors"
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
STEERING = {".json", ".txt", ".model"}
"""Files besides the weights that decide what is drawn: configurations, schedule, vocabulary."""


class TextToImage:
    """Run one diffusers pipeline on one device."""

    kind: ClassVar[str] = "text-to-image"
    schema: ClassVar[InputSchema] = SCHEMA

    def __init__(self, model: str, reference: str) -> None:
        self.model = model
        self.reference = reference
        self.digest = ""
        self._pipeline: Any = None
        self._takes: frozenset[str] = frozenset()

    def setup(self) -> None:
        """Load the pipeline, on CUDA in half precision when there is one, and draw one step to warm it up."""
        import torch

        folder = fetched(self.reference)
        refuse_unsafe(folder, model=self.model)
        self.digest = weights_digest(folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._pipeline = load(folder, device, model=self.model)
        self._takes = frozenset(inspect.signature(self._pipeline.__call__).parameters)
        if not {"prompt", "num_inference_steps", "generator", "callback_on_step_end"} <= self._takes:
            raise ModelUnusable(self.model, f"is a {type(self._pipeline).__name__}, which draws no text step by step")
        with device_errors(self.device_name):
            self._draw("", {"steps": 2, "guidance": "3"}, self.own_size, 0, lambda _step, _steps: None)

    def run(
        self, inputs: Inputs, report: Report, *, workdir: Path, cancelled: Callable[[], bool] = lambda: False
    ) -> RunResult:
        """Draw the pictures that normalised inputs ask for, and write them as PNG without metadata."""
        if self._pipeline is None:
            raise RuntimeError("setup() comes before run()")
        if inputs.get("negative_prompt") and "negative_prompt" not in self._takes:
            raise BadInput("negative_prompt", inputs["negative_prompt"], f"is not taken by the model {self.model}")
        own = self.own_size
        asked = (int(inputs.get("width", own[0])), int(inputs.get("height", own[1])))
        drawable = nearest_drawable(asked, own=own, grain=self._pipeline.vae_scale_factor)
        first_seed = int(inputs.get("seed", secrets.randbelow(MAX_SAFE_INTEGER + 1)))
        count = int(inputs["count"])
        outputs: list[Output] = []
        drawn_size = drawable

        def watch(step: int, steps: int) -> None:
            report(ProgressReport(len(outputs) * steps + step, count * steps))
            if cancelled():
                raise Cancelled

        if cancelled():
            raise Cancelled
        with device_errors(self.device_name), gpu_clock() as gpu_ms:
            for n in range(count):
                picture = self._draw(str(inputs["prompt"]), inputs, drawable, first_seed + n, watch)
                drawn_size = picture.size
                name = "picture.png" if count == 1 else f"picture-{n + 1}.png"
                fit(picture, asked).save(workdir / name, format="PNG")
                outputs.append(Output(name, workdir / name, "image/png"))
        return RunResult(tuple(outputs), self._facts(inputs, first_seed, asked, drawn_size, gpu_ms))

    @property
    def own_size(self) -> tuple[int, int]:
        """Give the width and height that the model was trained on."""
        denoiser = getattr(self._pipeline, "unet", None) or self._pipeline.transformer
        sample = getattr(self._pipeline, "default_sample_size", None) or denoiser.config.sample_size
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return width * self._pipeline.vae_scale_factor, height * self._pipeline.vae_scale_factor

    @cached_property
    def device_name(self) -> str:
        """Name the device as its maker does; a CPU by its architecture."""
        import torch

        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else f"CPU {platform.machine()}"

    def _draw(
        self, prompt: str, inputs: Inputs, size: tuple[int, int], seed: int, watch: Callable[[int, int], None]
    ) -> Image.Image:
        """Draw one picture; `watch` is told each step, and stops the drawing by raising."""
        import torch

        def after_step(pipeline: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            # Some schedules take a step more than was asked (PNDM, for one): the pipeline knows how many.
            watch(index + 1, getattr(pipeline, "num_timesteps", int(inputs["steps"])))
            return tensors

        wanted = {
            "width": size[0],
            "height": size[1],
            "guidance_scale": float(inputs["guidance"]),
            "negative_prompt": inputs.get("negative_prompt"),
        }
        drawn = self._pipeline(
            prompt=prompt,
            num_inference_steps=int(inputs["steps"]),
            # On the CPU even for CUDA: noise from a CUDA generator differs from one GPU model to the next.
            # This one reads the seed's lowest 32 bits alone: seeds 2^32 apart give the same picture.
            generator=torch.Generator("cpu").manual_seed(seed),
            callback_on_step_end=after_step,
            **{name: value for name, value in wanted.items() if name in self._takes},
        )
        if any(getattr(drawn, "nsfw_content_detected", None) or ()):
            raise RunnerError("withheld", may_pass=False, detail="the model's safety checker withheld the picture")
        picture: Image.Image = drawn.images[0].convert("RGB")
        return picture

    def _facts(
        self, inputs: Inputs, seed: int, asked: tuple[int, int], drawn: tuple[int, int], gpu_ms: list[int]
    ) -> dict[str, Value]:
        """List what decided the picture, in integers and text."""
        import torch

        facts: dict[str, Value] = {
            "seed": seed,
            "steps": inputs["steps"],
            "guidance": inputs["guidance"],
            "width": asked[0],
            "height": asked[1],
            "drawn_width": drawn[0],
            "drawn_height": drawn[1],
            "model": self.model,
            "model_digest": self.digest,
            "device": self.device_name,
            "torch": version_of("torch"),
            "diffusers": version_of("diffusers"),
            # The same seed gives the same picture, but not the same latents, with another number of threads.
            "threads": torch.get_num_threads(),
        }
        return facts | {"gpu_ms": sum(gpu_ms)} if gpu_ms else facts


SPEC = RunnerSpec(kind=TextToImage.kind, title="Text to image", schema=SCHEMA, make=TextToImage)


@cache
def version_of(package: str) -> str:
    """Name the installed version of a package."""
    return metadata.version(package)


# -- the model -----------------------------------------------------------------------------------------------------


def fetched(reference: str) -> Path:
    """Give the folder of a pipeline: the path itself, or the local copy of a hub repository (fetched when missing).

    Raises: ModelUnusable.
    """
    # An empty path would be the current folder.
    if reference and Path(reference).is_dir():
        return Path(reference)
    if reference.startswith((".", "/", "~")) or reference.count("/") != 1:
        raise ModelUnusable(reference, "is neither a folder nor a hub id (owner/name)")
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(reference, use_safetensors=True, trust_remote_code=False))
    except (OSError, ValueError) as error:
        raise ModelUnusable(reference, "can't be fetched from the hub") from error


def load(folder: Path, device: str, *, model: str) -> Any:
    """Load the pipeline of a folder onto a device.

    Raises: ModelUnusable.
    """
    import torch
    from diffusers import DiffusionPipeline

    from_pretrained: Callable[..., Any] = DiffusionPipeline.from_pretrained
    try:
        pipeline = from_pretrained(
            folder,
            dtype=torch.float16 if device == "cuda" else torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnusable(model, f"can't be loaded ({type(error).__name__})") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def refuse_unsafe(folder: Path, *, model: str) -> None:
    """Refuse a pipeline that would run code of its own: pickled weights, or Python files that diffusers would import.

    A component may have pickles beside its safetensors (hub repositories often do): they are not read.
    Raises: ModelUnusable.
    """
    index = model_index(folder, model=model)
    # A list here, or a file of this very name, makes diffusers import a module from the folder, even with
    # trust_remote_code off: that guards downloads alone.
    if not isinstance(index.get("_class_name"), str) or (folder / "None.py").exists():
        raise ModelUnusable(model, "brings a pipeline class of its own")
    for component in components(folder, index):
        suffixes = {path.suffix for path in component.rglob("*")}
        if ".py" in suffixes:
            raise ModelUnusable(model, f"brings code of its own in {component.name}/")
        if suffixes & PICKLES and WEIGHTS not in suffixes:
            raise ModelUnusable(model, f"has nothing but pickled weights in {component.name}/")


def weights_digest(folder: Path) -> str:
    """Name a pipeline by its content, in 64 hex digits.

    SHA-256 over one line `path:sha256\\n` for each file that decides what is drawn, sorted by path (POSIX, relative to
    the folder): model_index.json and, in the component folders it lists, *.safetensors, *.json, *.txt and *.model.
    Reads every weight: keep the answer.
    """
    index = model_index(folder, model=str(folder))
    files = [folder / "model_index.json"]
    for component in components(folder, index):
        files += [path for path in component.rglob("*") if path.suffix in STEERING | {WEIGHTS} and path.is_file()]
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(f"{path.relative_to(folder).as_posix()}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def model_index(folder: Path, *, model: str) -> dict[str, Any]:
    """Read what the pipeline consists of.

    Raises: ModelUnusable.
    """
    try:
        index = json.loads((folder / "model_index.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ModelUnusable(model, "has no readable model_index.json: no diffusers pipeline") from error
    if not isinstance(index, dict):
        raise ModelUnusable(model, "has a model_index.json that is no object")
    return index


def components(folder: Path, index: dict[str, Any]) -> list[Path]:
    """List the folders of the components that the index names and that exist."""
    # An identifier holds neither a slash nor a dot, so nothing outside the folder is ever named.
    named = [name for name, value in index.items() if isinstance(value, list) and name.isidentifier()]
    return [folder / name for name in named if (folder / name).is_dir()]


# -- the size ------------------------------------------------------------------------------------------------------


def nearest_drawable(asked: tuple[int, int], *, own: tuple[int, int], grain: int) -> tuple[int, int]:
    """Find the size that a model draws well and that comes nearest to what was asked.

    A small model draws its own size alone. A general one draws each side from half to twice its own, in steps of its
    grain; what lies outside is scaled into that, keeping its shape as far as it goes.
    """
    if min(own) < DRAWN_SMALL:
        return own
    least, most = min(own) // 2, max(own) * 2
    factor = min(1.0, most / max(asked)) if max(asked) > most else max(1.0, least / min(asked))
    width, height = (min(most, max(least, round(side * factor / grain) * grain)) for side in asked)
    return width, height


def fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale a picture to a size with Lanczos; where the shape differs, continue the background, not distort."""
    from PIL import Image, ImageOps

    if picture.size == size:
        return picture
    return ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color=border_colour(picture))


def border_colour(picture: Image.Image) -> tuple[int, ...]:
    """Give the median colour of a picture's outermost pixels."""
    width, height = picture.size
    rows = [picture.crop((0, y, width, y + 1)) for y in (0, height - 1)]
    columns = [picture.crop((x, 0, x + 1, height)) for x in (0, width - 1)]
    data = b"".join(edge.tobytes() for edge in rows + columns)
    channels = (sorted(data[channel::3]) for channel in range(3))
    return tuple(channel[len(channel) // 2] for channel in channels)


# -- the device ----------------------------------------------------------------------------------------------------


@contextmanager
def gpu_clock() -> Iterator[list[int]]:
    """Measure what happens inside by CUDA events, in whole milliseconds; the list stays empty where no GPU works."""
    import torch

    measured: list[int] = []
    if not torch.cuda.is_available():
        yield measured
        return
    event: Callable[..., Any] = torch.cuda.Event
    begin, end = event(enable_timing=True), event(enable_timing=True)
    begin.record()
    yield measured
    end.record()
    torch.cuda.synchronize()
    measured.append(round(begin.elapsed_time(end)))


@contextmanager
def device_errors(device: str) -> Iterator[None]:
    """Turn a full memory into OutOfMemory, and leave the device's cache empty for the next job."""
    import torch

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # torch names a full GPU by a class of its own, a full main memory by its words alone.
        if isinstance(error, torch.cuda.OutOfMemoryError):
            torch.cuda.empty_cache()
        elif isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(device) from error
