"""What a guest is told to load: pieces of source with their place in the student's files, and values."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One top-level statement."""

    file: str  # as the student named it; tracebacks show it
    line: int  # of the statement's first line in that file, 1-based (decorators included)
    source: str
    # What may be needed, and is left out where it raises: the program is then loaded anew without it
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a model that the judge plays looks like to the program, beyond any `nn.Module`."""

    class_name: str = "Module"  # as messages show it
    attributes: dict[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Program:
    """The code and the values that one session of a guest is given.

    Two namespaces are built. The first holds `values` and runs `stand_ins`, code of ours. Of its names those in
    `stand_in_names` are then copied into the second one, which holds `values` too and runs `chunks`, the student's.
    Last, each export is bound: `exports["q"] = "my_q"` makes the student's `my_q` answer to `q`.
    """

    chunks: tuple[Chunk, ...]
    values: dict[str, Any] = field(default_factory=dict)  # name -> tensor, number, or a `Device`
    stand_ins: tuple[Chunk, ...] = ()
    stand_in_names: dict[str, str] = field(default_factory=dict)  # name for the student -> name in `stand_ins`
    exports: dict[str, str] = field(default_factory=dict)  # canonical name -> name in `chunks`
    stubs: tuple[str, ...] = ()  # modules whose import yields something that swallows every use
    model: Model = field(default_factory=Model)  # what callbacks are


@dataclass(frozen=True)
class Device:
    """Becomes a `torch.device` in the guest."""

    name: str
