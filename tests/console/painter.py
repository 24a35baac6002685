"""A runner that paints at once, so that the console has something to show: no model, the same line."""

from pathlib import Path
from typing import Any, ClassVar

from PIL import Image, ImageDraw

from jobs.runners.base import InputSchema, Output, ProgressReport, Report, RunResult

COLOURS = {"red": (203, 45, 48), "blue": (43, 92, 173), "green": (46, 139, 87), "orange": (226, 126, 35)}


class Painter:
    """Draw a disc or a square in the colour that the prompt names."""

    kind: ClassVar[str] = "text-to-image"
    schema: ClassVar[InputSchema] = InputSchema(())
    digest = "ab" * 32
    device_name = "cpu:1 (painter)"

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, inputs: Any, report: Report, *, workdir: Path, cancelled: Any = None) -> RunResult:
        """Paint, and report each step as a model would."""
        steps = int(inputs["steps"])
        for step in range(1, steps + 1):
            report(ProgressReport(step, steps))
        words = str(inputs["prompt"]).split()
        colour = next((COLOURS[word] for word in words if word in COLOURS), (120, 120, 120))
        picture = Image.new("RGB", (256, 256), (244, 242, 236))
        draw = ImageDraw.Draw(picture)
        shape = draw.rectangle if "square" in words else draw.ellipse
        shape((62, 54, 198, 190), fill=colour)
        path = workdir / "picture.png"
        picture.save(path)
        facts: dict[str, int | str] = {"model_digest": self.digest, "seed": int(inputs["seed"]), "steps": steps}
        return RunResult((Output("picture.png", path, "image/png"),), facts)
