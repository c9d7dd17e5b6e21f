"""`noisemark doctor`: what this machine can do, and what it lacks."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import BaseModel
from rich.text import Text

from cli.console import TONES, out
from cli.errors import ExitCode
from grading.text import neutralise

_LIBRARIES = ("torch", "torchvision", "numpy", "einops", "scikit-learn", "pytest", "fastapi", "celery", "sqlalchemy")
_GIB = 2**30


class Finding(BaseModel):
    """One thing that was looked at."""

    topic: Literal["sandbox", "program", "device", "data", "library", "machine"]
    name: str
    state: Literal["good", "missing", "broken"]  # missing: the rest works without it
    detail: str  # what was found, or what is missing
    remedy: str = ""  # the way out, in words


class Diagnosis(BaseModel):
    ready: bool  # hand-ins can be graded in a sandbox
    findings: list[Finding]


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False) -> None:
    """Say what this machine can do: sandboxes, devices, data, versions. Exit code 3 where it cannot grade safely."""
    findings = [*_sandboxes(), *_devices(), *_data(), *_libraries(), *_machine()]
    ready = any(finding.topic == "sandbox" and finding.state == "good" for finding in findings) and not any(
        finding.state == "broken" for finding in findings
    )
    diagnosis = Diagnosis(ready=ready, findings=findings)
    if as_json:
        typer.echo(diagnosis.model_dump_json(indent=2))
    else:
        _print(diagnosis)
    if not ready:
        raise typer.Exit(ExitCode.INFRASTRUCTURE)


def _sandboxes() -> list[Finding]:
    from sandbox.doctor import parts, probe

    backends = [
        Finding(
            topic="sandbox",
            name=status.name,
            # `none` is always there, and is no sandbox
            state="good" if status.available and status.name != "none" else "missing",
            detail="; ".join(filter(None, (status.isolation, status.missing))),
            remedy=status.remedy or "",
        )
        for status in probe()
    ]
    programs = [
        Finding(
            topic="program",
            name=part.name,
            state="good" if part.is_good else "missing",
            detail=f"{part.found or 'not here'}; needed: {part.needed} or newer",
            remedy=f"Older ones: {part.holes}. A distribution may have mended its own." if part.found else "",
        )
        for part in parts()
    ]
    return [*backends, *programs]


def _devices() -> list[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        return [
            Finding(topic="device", name="torch", state="broken", detail=str(error), remedy="Run scripts/bootstrap.")
        ]
    cores = torch.get_num_threads()
    findings = [Finding(topic="device", name="cpu", state="good", detail=f"{cores} threads, torch {torch.__version__}")]
    if torch.cuda.is_available():
        findings += [
            Finding(topic="device", name=f"cuda:{index}", state="good", detail=torch.cuda.get_device_name(index))
            for index in range(torch.cuda.device_count())
        ]
    else:
        findings.append(
            Finding(
                topic="device",
                name="cuda",
                state="missing",
                detail="no CUDA device that this torch can use",
                remedy="Only mnist28 needs one; the other recipes train on the processor in minutes.",
            )
        )
    return findings


def _data() -> list[Finding]:
    from reference.datasets import ENVIRONMENT_VARIABLE

    found = _mnist_directory()
    return [
        Finding(topic="data", name="digits", state="good", detail="comes with scikit-learn (recipe digits16)"),
        Finding(topic="data", name="mnist", state="good", detail=f"{found} (recipes mnist16, mnist28)")
        if found
        else Finding(
            topic="data",
            name="mnist",
            state="missing",
            detail="not on this machine (recipes mnist16, mnist28)",
            remedy=f"It is downloaded when it is first needed; or set {ENVIRONMENT_VARIABLE} to a folder that has it.",
        ),
    ]


def _mnist_directory() -> Path | None:
    """Where MNIST lies, without a download: the places that `reference.datasets` looks at, in its order."""
    from reference.datasets import mnist_places

    return next((place for place in mnist_places() if (place / "MNIST" / "raw").is_dir()), None)


def _libraries() -> list[Finding]:
    findings = [Finding(topic="library", name="python", state="good", detail=platform.python_version())]
    for name in _LIBRARIES:
        try:
            findings.append(Finding(topic="library", name=name, state="good", detail=version(name)))
        except PackageNotFoundError:
            findings.append(
                Finding(
                    topic="library", name=name, state="broken", detail="not installed", remedy="Run scripts/bootstrap."
                )
            )
    return findings


def _machine() -> list[Finding]:
    findings = [
        Finding(topic="machine", name="system", state="good", detail=platform.platform()),
        Finding(topic="machine", name="cores", state="good", detail=str(_cores())),
        Finding(
            topic="machine",
            name="disk",
            state="good",
            detail=f"{shutil.disk_usage(Path.cwd()).free / _GIB:.1f} GiB free here",
        ),
    ]
    memory = Path("/proc/meminfo")  # Linux only
    if memory.exists():
        values = dict(line.split(":", 1) for line in memory.read_text().splitlines())
        free = int(values["MemAvailable"].split()[0]) * 1024 / _GIB
        findings.append(Finding(topic="machine", name="memory", state="good", detail=f"{free:.1f} GiB available"))
    return findings


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _print(diagnosis: Diagnosis) -> None:
    console = out()
    topic = ""
    for finding in diagnosis.findings:
        if finding.topic != topic:
            topic = finding.topic
            console.print(Text(topic.capitalize(), style="bold"))
        symbol, tone = {"good": ("✓", "good"), "missing": ("○", "open"), "broken": ("✗", "bad")}[finding.state]
        line = Text.assemble("  ", (symbol, TONES[tone]), f" {neutralise(finding.name)}: {neutralise(finding.detail)}")
        console.print(line)
        if finding.remedy and finding.state != "good":
            console.print(Text(f"      {neutralise(finding.remedy)}"))
    console.print(
        Text("Ready to grade.", style=TONES["good"])
        if diagnosis.ready
        else Text("Not ready to grade others' work: see above.", style=TONES["bad"])
    )
