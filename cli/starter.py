"""`noisemark starter`: the file that a student fills in."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import say
from cli.errors import UnusableInput
from cli.files import require_writable, write
from reference.pack import load_pack


def starter(
    notebook: Annotated[bool, typer.Option("--notebook", help="As a notebook in place of a module.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", show_default="starter.py or starter.ipynb")
    ] = None,
    pack: Annotated[str, typer.Option(help="The assignment.")] = "ddpm",
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Take it from a server.", show_default="the copy installed here")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write the starter to a file."""
    suffix = ".ipynb" if notebook else ".py"
    target = output or Path(f"starter{suffix}")
    require_writable(target)
    if target.exists() and not force:
        raise UnusableInput(f"{target} is there already, perhaps with your work in it. --force overwrites it.")
    if server is None:
        content = load_pack(pack).starter(".ipynb" if notebook else ".py").read_bytes()
    else:
        from cli.client import Client

        with Client(server) as client:
            content = client.starter(pack, suffix.removeprefix("."))
    write(target, content)
    say(f"Written to {target}. Fill in the blanks, then: noisemark grade {target}")
