"""What stands in for progress bars, such as tqdm's: they yield what they wrap."""

from collections.abc import Iterator
from typing import Any


def _nothing(*_: Any, **__: Any) -> None:
    """A method that would draw."""


class Progress:
    """`tqdm(x)`: iterates over x, and is x for the rest, but for what a bar does."""

    def __init__(self, iterable: Any = (), *_: Any, **__: Any) -> None:
        self.iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self.iterable)

    def __len__(self) -> int:
        return len(self.iterable)

    def __getitem__(self, key: Any) -> Any:
        return self.iterable[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "iterable":
            raise AttributeError(f"'tqdm' object has no attribute {name!r}")
        return getattr(self.iterable, name, _nothing)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __bool__(self) -> bool:
        return True

    # Some of these are methods of lists, sets and generators, too
    update = close = clear = reset = refresh = display = unpause = _nothing
    set_description = set_description_str = set_postfix = set_postfix_str = _nothing
    write = set_lock = get_lock = staticmethod(_nothing)


# What tells students the type of a value is what they wrote
Progress.__name__ = Progress.__qualname__ = "tqdm"
Progress.__module__ = "tqdm"


def progress_range(*args: int, **__: Any) -> Progress:
    """`tqdm.trange`."""
    return Progress(range(*args))


# Module at top level and name in it or below -> what it is
BARS: dict[tuple[str, str], Any] = {
    ("tqdm", "tqdm"): Progress,
    ("tqdm", "tqdm_notebook"): Progress,
    ("tqdm", "trange"): progress_range,
    ("tqdm", "tnrange"): progress_range,
    ("fastprogress", "progress_bar"): Progress,
    ("fastprogress", "master_bar"): Progress,
    ("rich", "track"): Progress,
}
