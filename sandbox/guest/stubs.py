"""Inert modules in place of those that exist only where the course runs, or that have no business in a guest."""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any


class Inert:
    """Swallows every use: it can be called, indexed, iterated over (it is empty), entered and subclassed."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        return self

    def __getattr__(self, name: str) -> "Inert":
        if name.startswith("__"):  # protocols that Python or torch probe for, such as __array__
            raise AttributeError(name)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        pass

    def __getitem__(self, key: Any) -> "Inert":
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __enter__(self) -> "Inert":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()


class Progress:
    """What `tqdm(x)` yields: iterates over x; for the rest it is x where x can, and inert where not."""

    def __init__(self, iterable: Any = (), *_: Any, **__: Any) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)

    def __len__(self) -> int:
        return len(self._iterable)

    def __getitem__(self, key: Any) -> Any:
        return self._iterable[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterable, name, Inert())

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        pass


def progress_range(*args: int, **__: Any) -> Progress:
    """`tqdm.trange`."""
    return Progress(range(*args))


class StubModule(types.ModuleType):
    """A module all of whose attributes are inert. Callable, as some import a module where a function is meant."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # a package: submodules can be imported

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Progress(*args, **kwargs) if self.__name__.partition(".")[0] == "tqdm" else Inert()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.__name__.partition(".")[0] == "tqdm":
            if name in ("tqdm", "tqdm_notebook"):
                return Progress
            if name == "trange":
                return progress_range
        return Inert()


class StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers for a set of modules and everything below them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        """A stub's spec where the module is one of ours, else None."""
        parts = fullname.split(".")
        if not any(".".join(parts[:count]) in self._names for count in range(1, len(parts) + 1)):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """The stub."""
        return StubModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """A stub has no code."""


def install(names: Sequence[str]) -> None:
    """Make importing any of `names`, or a submodule, yield an inert object."""
    sys.meta_path.insert(0, StubFinder(names))
