"""`noisemark grade`: the same pipeline as the service's, here and now."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.arguments import HandIn, recipe_name
from cli.console import say, warn
from cli.errors import Unavailable
from cli.files import read_work, require_reports_writable, write
from cli.progress import display
from cli.state import own_key
from cli.summary import print_report
from reference.pack import load_pack
from sandbox.faults import SandboxUnavailable


class Sandbox(StrEnum):
    AUTO = "auto"
    DOCKER_GVISOR = "docker-gvisor"
    DOCKER_RUNC = "docker-runc"
    BUBBLEWRAP = "bubblewrap"
    NONE = "none"


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def grade(
    path: HandIn,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train and generate, or only check.")] = True,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            parser=recipe_name,
            help="What to train on: digits16, mnist16, mnist28.",
            show_default="the assignment's",
        ),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page.")
    ] = None,
    sandbox: Annotated[
        Sandbox, typer.Option(help="none: run the code with your own rights; for your own work only.")
    ] = Sandbox.AUTO,
    pack: Annotated[str, typer.Option(help="The assignment.")] = "ddpm",
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.AUTO,
) -> None:
    """Grade a hand-in on this machine."""
    assignment = load_pack(pack)
    chosen_recipe = assignment.recipe(recipe)
    work = read_work(path)
    require_reports_writable(json_file, html_file)  # before minutes of training, not after

    from grading.hand_in import read_hand_in
    from sandbox.backends import choose_backend

    hand_in = read_hand_in(*work)
    try:
        backend = choose_backend(sandbox)
    except SandboxUnavailable as error:
        raise Unavailable(
            f"{error}. --sandbox auto takes the best that works here; for your own work only: --sandbox none."
        ) from error
    if not backend.sandboxed:
        warn("No sandbox: the code of this hand-in runs with all your rights. Do this with your own work only.")

    from grading.grade import grade as run_grading

    try:
        key = own_key()
    except OSError as error:
        raise Unavailable(f"Your own key cannot be kept: {error}. XDG_STATE_HOME names another place.") from error
    chosen_device = _resolve(device, train=train)
    with display(len(assignment.blanks)) as emit:
        grading = run_grading(
            hand_in, assignment, chosen_recipe, backend=backend, key=key, train=train, device=chosen_device, emit=emit
        )
    print_report(grading.report)
    if json_file is not None:
        write(json_file, grading.report.model_dump_json(indent=2) + "\n")
        say(f"Report as JSON: {json_file}")
    if html_file is not None:
        from grading.page import render

        write(html_file, render(grading.report, grading.artifacts, assignment.file.title))
        say(f"Report as a page: {html_file}")


def _resolve(device: Device, *, train: bool) -> Literal["cpu", "cuda"]:
    """Where to train. Raises `Unavailable` where that is not to be had."""
    if not train or device is Device.CPU:
        return "cpu"  # without asking torch: its import takes seconds
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device is Device.CUDA:
        raise Unavailable("There is no CUDA device that this torch can use. --device cpu trains without one.")
    return "cpu"
