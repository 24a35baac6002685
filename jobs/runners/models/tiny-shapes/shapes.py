"""Draw the pictures that tiny-shapes learns from, and judge a picture by the same drawer.

Needs Pillow and numpy alone, so that a test can judge a picture without loading a model.
"""

from __future__ import annotations

import math
import random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SIZE = 64
SUPERSAMPLE = 4

SHAPES = ("circle", "square", "triangle", "star")

# Chosen far apart in RGB (the nearest two, orange and yellow, are 95 apart): a small autoencoder blurs colours
# towards each other, and what it merges no denoiser can part again.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40),
    "green": (40, 160, 70),
    "blue": (40, 90, 215),
    "yellow": (250, 225, 50),
    "orange": (245, 135, 20),
    "purple": (130, 50, 170),
}

PROMPTS = tuple(f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES)

# How people ask for the same picture. The first is the one most used and most often drawn.
CAPTIONS = (
    "a {colour} {shape}",
    "{colour} {shape}",
    "the {colour} {shape}",
    "one {colour} {shape}",
    "a picture of a {colour} {shape}",
    "a drawing of a {colour} {shape}",
    "an image of a {colour} {shape}",
    "draw a {colour} {shape}",
    "a {shape} in {colour}",
    "a {colour} {shape} on a light background",
    "a simple {colour} {shape}",
    "a nice {colour} {shape}",
    "a photo of a {colour} {shape}",
    "a painting of a {colour} {shape}",
    "show me a beautiful {colour} {shape}",
    "please draw me a {colour} {shape}",
    "a {shape} that is {colour}",
    "{shape}, {colour}",
)

# Of each shape with corners: how far it is turned, and how far each corner reaches, clockwise.
CORNERS: dict[str, tuple[float, tuple[float, ...]]] = {
    "square": (math.pi / 4, (1.0,) * 4),
    "triangle": (0.0, (1.0,) * 3),
    "star": (0.0, (1.0, 0.42) * 5),
}

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def outline(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """List the corners of a square, triangle or star whose tips lie `radius` from (x, y).

    So a square is clearly smaller than the circle of its radius, on average too. Were they of one size, only the
    corners would tell them apart, and the text encoder would long take both words for one.
    """
    if shape not in CORNERS:
        raise ValueError(f"no corners for {shape!r}; only for {', '.join(CORNERS)}")
    turn, reaches = CORNERS[shape]
    angles = [2 * math.pi * i / len(reaches) - math.pi / 2 + turn for i in range(len(reaches))]
    return [
        (x + radius * reach * math.cos(angle), y + radius * reach * math.sin(angle))
        for angle, reach in zip(angles, reaches, strict=True)
    ]


def draw(
    shape: str,
    colour: tuple[int, int, int],
    *,
    x: float = SIZE / 2,
    y: float = SIZE / 2,
    radius: float = 20.0,
    background: tuple[int, int, int] = (244, 243, 240),
) -> Image.Image:
    """Draw one filled shape with smooth edges."""
    scale = SUPERSAMPLE
    canvas = Image.new("RGB", (SIZE * scale, SIZE * scale), background)
    pen = ImageDraw.Draw(canvas)
    if shape == "circle":
        box = tuple(scale * edge for edge in (x - radius, y - radius, x + radius, y + radius))
        pen.ellipse(box, fill=colour)
    else:
        pen.polygon([(scale * px, scale * py) for px, py in outline(shape, x, y, radius)], fill=colour)
    return canvas.reduce(scale)


def draw_jittered(shape: str, colour: tuple[int, int, int], rng: random.Random) -> Image.Image:
    """Draw a shape at a random place, in a random size, on a random light background, in a slightly varied colour."""
    radius = rng.uniform(14.0, 24.0)
    reach = SIZE / 2 - radius - 2
    grey = rng.randint(236, 250)
    background = (grey, min(255, grey + rng.randint(-3, 3)), min(255, grey + rng.randint(-6, 2)))
    varied = tuple(max(0, min(255, channel + rng.randint(-6, 6))) for channel in colour)
    return draw(
        shape,
        (varied[0], varied[1], varied[2]),
        x=SIZE / 2 + rng.uniform(-reach, reach),
        y=SIZE / 2 + rng.uniform(-reach, reach),
        radius=radius,
        background=background,
    )


def judge(picture: Image.Image) -> tuple[str, str]:
    """Name the colour and the shape that a picture shows: nearest palette colour, best overlap with a drawn shape.

    A picture without anything on it is judged ("nothing", "nothing").
    """
    small = picture.convert("RGB")
    if small.size != (SIZE, SIZE):
        small = small.resize((SIZE, SIZE), Image.Resampling.BOX)
    pixels = np.asarray(small)
    mask = foreground(pixels)
    if mask.sum() < 60:
        return "nothing", "nothing"
    return nearest_colour(pixels, mask), best_shape(mask)


def foreground(pixels: Pixels) -> Mask:
    """Find the pixels that are not background: further than 60 from the median of the picture's border."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    distance = np.linalg.norm(pixels.astype(np.float64) - np.median(border, axis=0), axis=-1)
    return np.asarray(distance > 60, dtype=np.bool_)


def nearest_colour(pixels: Pixels, mask: Mask) -> str:
    """Name the palette colour nearest to the median of the masked pixels."""
    median = np.median(pixels[mask], axis=0)
    return min(COLOURS, key=lambda name: float(np.linalg.norm(median - np.array(COLOURS[name]))))


def best_shape(mask: Mask) -> str:
    """Name the shape whose drawing, stretched to the mask's bounding box, overlaps it best (shared over joint area)."""
    seen = crop(mask)

    def overlap(shape: str) -> float:
        drawn = crop(foreground(np.asarray(draw(shape, (0, 0, 0)))))
        stretched = np.asarray(Image.fromarray(drawn).resize(seen.shape[::-1], Image.Resampling.NEAREST))
        return float((seen & stretched).sum() / (seen | stretched).sum())

    return max(SHAPES, key=overlap)


def crop(mask: Mask) -> Mask:
    """Cut a mask to its bounding box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
