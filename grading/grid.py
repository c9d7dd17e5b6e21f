"""Pictures for reports: images as a grid, one column per digit or per step."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from reference.datasets import N_CLASSES

SCALE = 3  # screen pixels for each pixel of an image, which alone is smaller than a letter
GAP = 4  # screen pixels between images
HEADING = 22  # screen pixels above the columns, for a digit of FONT_SIZE
FONT_SIZE = 15
PAPER = 255
INK = 40


def draw_grid(images: Tensor, labels: Tensor, rows: int) -> bytes:
    """A PNG with the first `rows` images of each digit below the digit.

    Images [N, 1, H, W] in [-1, 1] (clipped); labels [N], what each is meant to show.
    """
    columns = [images[labels == digit][:rows] for digit in range(N_CLASSES)]
    return draw_columns(columns, [str(digit) for digit in range(N_CLASSES)])


def draw_columns(columns: Sequence[Tensor], headings: Sequence[str]) -> bytes:
    """A PNG with a column for each of `columns`, images [N, 1, H, W] in [-1, 1] (clipped), below its heading."""
    size = columns[0].shape[-1] * SCALE
    rows = max(len(column) for column in columns)
    grid = Image.new("L", (len(columns) * (size + GAP) + GAP, HEADING + rows * (size + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(grid)
    font = ImageFont.load_default(FONT_SIZE)
    for place, (column, heading) in enumerate(zip(columns, headings, strict=True)):
        left = GAP + place * (size + GAP)
        draw.text((left + size / 2, HEADING / 2), heading, fill=INK, font=font, anchor="mm")
        for row, image in enumerate(column.clamp(-1, 1).add(1).mul(127.5).round().byte()):
            tile = Image.fromarray(image[0].numpy()).resize((size, size), Image.Resampling.NEAREST)
            grid.paste(tile, (left, HEADING + row * (size + GAP)))
    file = io.BytesIO()
    grid.save(file, format="PNG", optimize=True)
    return file.getvalue()
