"""Right hand-ins of the course's two editions."""

import json
from pathlib import Path

OLDER = (Path(__file__).parent / "hand_ins/older_edition.py").read_text(encoding="utf-8")
IMPORTS = "import math\n", "from einops.layers.torch import Rearrange\n"
SLIP = "model(x_noisy, t/T, *model_args)"


def changed(source: str, *changes: tuple[str, str]) -> str:
    """A source with texts replaced, each of which is there."""
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    return source


NEWER = changed(
    OLDER,
    ("import glob\n", f"import glob\n{IMPORTS[0]}"),
    ("import torchvision.transforms as transforms\n", f"import torchvision.transforms as transforms\n\n{IMPORTS[1]}"),
    (SLIP, "model(x_noisy, t, *model_args)"),
    ("UNet_utils.UNet(", "UNet("),
    ("sample_w(model, c_hot, 1.0)", "sample_w(model, c_hot, w)"),
)


def notebook(source: str) -> bytes:
    """A module in the percent format as a notebook: one cell for each `# %%`."""
    cells = [cell.strip("\n") for cell in source.split("# %%\n")[1:]]
    return json.dumps(
        {"nbformat": 4, "nbformat_minor": 5, "cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    ).encode()
