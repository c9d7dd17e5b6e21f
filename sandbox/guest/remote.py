"""The model that the judge plays: student code calls it like any network, and the judge sees what was passed in."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

Ask = Callable[[int, tuple[Any, ...], dict[str, Any]], Any]
# While a `vjp` is being taken: for each answer the tensors that collect gradients
_answers: ContextVar[list[list[torch.Tensor]] | None] = ContextVar("answers", default=None)


@functools.cache
def model_class(name: str) -> type["RemoteModel"]:
    """The class of that name, as messages show it."""
    return type(name, (RemoteModel,), {"__module__": "submission"})


@contextmanager
def recording() -> Iterator[list[list[torch.Tensor]]]:
    """Answers of the judge collect gradients, and are listed, one list of tensors for each call."""
    calls: list[list[torch.Tensor]] = []
    token = _answers.set(calls)
    try:
        yield calls
    finally:
        _answers.reset(token)


class RemoteModel(torch.nn.Module):
    """Looks like a network with one parameter; calling it asks the judge.

    Args:
        number: by which the judge knows it.
        ask: how to call it.
        attributes: what it has beyond any network, by name.
    """

    def __init__(self, number: int, ask: Ask, attributes: dict[str, Any]) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # `next(model.parameters()).device` is in use
        self._number = number
        self._ask = ask
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Whatever the judge answers."""
        answer = self._ask(self._number, args, kwargs)
        calls = _answers.get()
        if calls is None or not torch.is_grad_enabled():  # no network's output has a gradient under `no_grad`
            return answer
        parts = answer if isinstance(answer, list | tuple) else (answer,)
        leaves = [part for part in parts if torch.is_tensor(part) and part.is_floating_point()]
        calls.append([leaf.requires_grad_() for leaf in leaves])
        return answer
