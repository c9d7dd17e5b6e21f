"""The module that student code becomes: stand-ins, values, chunks, exports and stubs (see `sandbox.program`)."""

import __future__

import functools
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from . import devices, remote, stubs
from .errors import BadValue
from .wire import describe

FUTURE_FLAGS = functools.reduce(
    int.__or__, (getattr(__future__, n).compiler_flag for n in __future__.all_feature_names)
)
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
MISSING = object()
# Loads of one program, of which each but the last meets an optional chunk that raises. One such chunk is rare
MAX_TRIES = 5


class OptionalFault(Exception):  # noqa: N818
    """A chunk raised that may be left out."""

    def __init__(self, chunk: dict[str, Any], error: BaseException) -> None:
        super().__init__()
        self.chunk = chunk
        self.error = error


def execute(chunks: list[dict[str, Any]], variables: dict[str, Any]) -> None:
    """Run statements one by one under their own file names and lines."""
    future: dict[str, int] = {}  # `from __future__` holds for the rest of its file
    for chunk in chunks:
        file = chunk["file"]
        source = "\n" * (chunk["line"] - 1) + chunk["source"]
        try:
            code = compile(source, file, "exec", flags=future.get(file, 0), dont_inherit=True)
            future[file] = code.co_flags & FUTURE_FLAGS
            exec(code, variables)  # noqa: S102  (what a guest is for)
        except (Exception, SystemExit) as error:
            if chunk["optional"]:
                raise OptionalFault(chunk, error) from None
            raise


class Loaded:
    """The student's namespace."""

    def __init__(self) -> None:
        self.files: frozenset[str] = frozenset()  # names under which the student's code is compiled
        self._variables: dict[str, Any] = {}
        self._exports: dict[str, str] = {}
        self._model: dict[str, Any] = {}  # see `sandbox.program.Model`
        self._values: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}  # as sent, and what the student was given

    def load(self, program: dict[str, Any], decode: Callable[[Any], Any]) -> None:
        """Build both namespaces. Raises whatever the student's top-level code raises.

        A chunk that is optional and raises may have done half of what it does, so all begins anew without it. Where
        what is left raises too, the first fault is the one to tell: it stands first in the student's file.
        """
        chunks = program["chunks"]
        first: BaseException | None = None
        tries = 0
        while True:
            try:
                self._load(program | {"chunks": chunks}, decode)
                return
            except OptionalFault as fault:
                tries += 1
                given_up = tries >= MAX_TRIES
                chunks = [c for c in chunks if c is not fault.chunk and not (given_up and c["optional"])]
                first = first or fault.error
            except BaseException:
                if first is None:
                    raise
                raise first from None

    def _load(self, program: dict[str, Any], decode: Callable[[Any], Any]) -> None:
        self.files = frozenset(chunk["file"] for chunk in program["chunks"])
        self._exports = program["exports"]
        self._model = program["model"]
        stubs.install(program["stubs"])
        if devices.is_named([chunk["source"] for chunk in program["chunks"]]):
            devices.redirect(decode(program["values"]).get("device"))
        ours = types.ModuleType("stand_ins")
        theirs = types.ModuleType("submission")
        sys.modules["stand_ins"], sys.modules["submission"] = ours, theirs  # dataclasses look their module up
        self._variables = vars(theirs)
        vars(ours).update(decode(program["values"]))
        execute(program["stand_ins"], vars(ours))
        # Tensors are cloned: what student code does in place must not reach the stand-ins. Names for the same tensor,
        # such as `betas` and `B`, stay names for the same tensor
        values = decode(program["values"])
        clones = {id(v): v.clone() for v in values.values() if torch.is_tensor(v)}
        given = {name: clones.get(id(v), v) for name, v in values.items()}
        self._values = {name: (v, given[name]) for name, v in values.items() if torch.is_tensor(v)}
        self._variables.update(given)
        self._variables.update({name: vars(ours)[source] for name, source in program["stand_in_names"].items()})
        execute(program["chunks"], self._variables)

    def model(self, number: int, ask: remote.Ask) -> remote.RemoteModel:
        """The judge's model of that number, as the program is to see it."""
        return remote.model_class(self._model["class_name"])(number, ask, self._model["attributes"])

    def find(self, name: str) -> Any:
        """The object behind an export or a global name. Raises `BadValue` where there is none."""
        value = self._variables.get(self._exports.get(name, name), MISSING)
        if value is MISSING:
            raise BadValue(f"does not define `{name}`")
        return value

    def changed_values(self) -> list[str]:
        """Names of the values whose tensors were changed in place; binding a name anew changes no tensor."""
        return [name for name, (sent, given) in self._values.items() if not unchanged(sent, given)]

    def kinds(self) -> dict[str, str]:
        """What each export turned out to be."""
        return {name: kind(self._variables.get(target, MISSING)) for name, target in self._exports.items()}

    @contextmanager
    def bound(self, names: dict[str, Any]) -> Iterator[None]:
        """Bind global names for the time of one call."""
        before = {name: self._variables.get(name, MISSING) for name in names}
        self._variables.update(names)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is MISSING:
                    self._variables.pop(name, None)
                else:
                    self._variables[name] = value


def unchanged(sent: torch.Tensor, given: torch.Tensor) -> bool:
    """Whether a tensor still is what was sent, in type, shape and every value."""
    return sent.dtype == given.dtype and sent.shape == given.shape and bool(torch.equal(sent, given))


def kind(value: Any) -> str:
    """The word by which `load` reports an export."""
    if value is MISSING:
        return "missing"
    if isinstance(value, type):
        return "class"
    if isinstance(value, FUNCTIONS):
        return "function"
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        return "tensor"
    if type(value) in (int, float):
        return "number"
    return f"other:{describe(value).removeprefix('a ').removeprefix('an ')}"
