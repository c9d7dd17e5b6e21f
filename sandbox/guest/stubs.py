"""Stubs in place of modules that exist only where the course runs, or that have no business in a guest.

Whatever a program does with a stub yields a stub again, and so does computing with one and tensors or arrays: code that
plots runs through, and an answer that rests on such a module says so (`Absent`).
"""

import functools
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy
import torch

from . import progress
from .unpacking import values_wanted
from .wire import WHERE, Absent


class Stub(Absent):
    """Swallows every use. Its class is named after the module, since messages of torch and Python name classes."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return called(self, args, kwargs)

    def __getattr__(self, name: str) -> "Stub":
        if name.startswith("__"):  # protocols that Python or torch probe for, such as __array_interface__
            raise AttributeError(f"{type(self).__name__}: no {name}")
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        pass

    def __delattr__(self, name: str) -> None:
        pass

    def __getitem__(self, key: Any) -> "Stub":
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __delitem__(self, key: Any) -> None:
        pass

    def __iter__(self) -> Iterator["Stub"]:
        """As many as an assignment unpacks; for everything else one, so that every loop ends."""
        wanted = values_wanted(sys._getframe(1))
        return iter((self,) * (1 if wanted is None else wanted))

    def __next__(self) -> "Stub":
        return self

    def __len__(self) -> int:
        return 1

    def __bool__(self) -> bool:
        return False  # so that `while figure.is_open` ends

    def keys(self) -> tuple[()]:
        """Nothing to unpack into a call: `f(**stub)`."""
        return ()

    def __contains__(self, _: Any) -> bool:
        return False

    def __enter__(self) -> "Stub":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (StubBase,) if bases == (self,) else ()

    def __instancecheck__(self, _: Any) -> bool:
        return False

    __subclasscheck__ = __instancecheck__

    # Numbers that are harmless: every sequence has an element 0, and 1 divides and has a logarithm

    def __index__(self) -> int:
        return 0

    def __int__(self) -> int:
        return 1

    def __float__(self) -> float:
        return 1.0

    def __complex__(self) -> complex:
        return 1 + 0j

    def __repr__(self) -> str:
        return f"<something from {self.origin}>"

    def __format__(self, _: str) -> str:
        return repr(self)

    # Functions of numpy and torch that are given one

    def __array__(self, *_: Any, **__: Any) -> Any:
        found = numpy.empty((), dtype=object)
        found[()] = self
        return found

    def __array_ufunc__(self, *_: Any, **__: Any) -> "Stub":
        return self

    def __array_function__(self, *_: Any) -> "Stub":
        return self

    @classmethod
    def __torch_function__(cls, *_: Any) -> "Stub":
        return cls()

    def __hash__(self) -> int:
        return object.__hash__(self)


def _itself(stub: Stub, *_: Any) -> Stub:
    return stub


_BINARY = (
    "add",
    "sub",
    "mul",
    "matmul",
    "truediv",
    "floordiv",
    "mod",
    "divmod",
    "pow",
    "lshift",
    "rshift",
    "and",
    "or",
    "xor",
)
_OTHER = (
    "neg",
    "pos",
    "abs",
    "invert",
    "round",
    "trunc",
    "floor",
    "ceil",
    "reversed",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
)
for _name in (*(f"{side}{name}" for name in _BINARY for side in ("", "r", "i")), *_OTHER):
    setattr(Stub, f"__{_name}__", _itself)


class StubBase:
    """What a class that derives from a stub derives from: takes any arguments."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass


@functools.cache
def stub_of(module: str) -> Stub:
    """The stub that everything in a module is."""
    kind = type(f"{module}, {WHERE}", (Stub,), {"__module__": "builtins", "origin": module})
    made: Stub = kind()
    return made


def called(stub: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What calling a stub yields: as a decorator leaves what it decorates, so `@utils.timed` does."""
    if len(args) == 1 and not kwargs and type(args[0]) in (types.FunctionType, type):
        return args[0]
    return stub


class StubModule(types.ModuleType, Absent):
    """A module all of whose attributes are stubs. Callable, as some import a module where a function is meant.

    `origin` is the module that is a stub itself; this one is that or lies below it.
    """

    def __init__(self, name: str, origin: str) -> None:
        super().__init__(name)
        self.__path__ = []  # a package: submodules can be imported
        self.origin = origin

    def __repr__(self) -> str:
        return f"<module {self.__name__!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found = self.__getattr__(self.__name__.rpartition(".")[2])
        return found(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return progress.BARS.get((self.origin, name)) or stub_of(self.origin)


class StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers for a set of modules and everything below them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        """A stub's spec where the module is one of ours, else None."""
        if self._origin(fullname) is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def _origin(self, fullname: str) -> str | None:
        parts = fullname.split(".")
        names = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
        return next((name for name in names if name in self._names), None)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """The stub."""
        return StubModule(spec.name, self._origin(spec.name) or spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """A stub has no code."""


def install(names: Sequence[str]) -> None:
    """Make importing any of `names`, or a submodule, yield a stub."""
    sys.meta_path.insert(0, StubFinder(names))


def _letting_through(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def convert(*args: Any, **kwargs: Any) -> Any:
        return args[0] if args and isinstance(args[0], Stub) else function(*args, **kwargs)

    return convert


def let_through() -> None:
    """Have the functions that make arrays and tensors hand stubs on. Those ask no argument whether it has own ideas."""
    torch.utils._device._device_constructors()  # a set of these functions, as `set_default_device` needs them: cached
    for module, names in ((numpy, ("array", "asarray")), (torch, ("tensor", "as_tensor", "asarray", "from_numpy"))):
        for name in names:
            setattr(module, name, _letting_through(getattr(module, name)))
