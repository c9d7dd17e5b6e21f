"""Accelerators that a guest does not have: what a program puts there goes where `device` is given.

`x.cuda()`, `device="mps"` and their like are common where the course runs. A torch function mode sees each of them. It
costs a few microseconds for every function of torch, so it is in force only for programs that name an accelerator.
"""

import re
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext

# As words of their own or parts of names, such as `is_cuda`
_NAMED = re.compile(r"cuda|\bmps\b|\bxpu\b|\bhpu\b|pin_memory")
HERE = ("cpu", "meta")
# Of `torch.cuda`: what needs a driver, and whose result no answer needs
_WITHOUT_EFFECT = ("synchronize", "set_device", "reset_peak_memory_stats", "reset_max_memory_allocated", "init")
_TYPES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")

_given: torch.device | None = None  # where everything goes, while that is in force


def resolve(device: Any) -> Any:
    """The device to take where a program asks for `device`: a name, a number, a `torch.device` or None."""
    if _given is None or device is None or isinstance(device, bool):
        return device
    if isinstance(device, int):
        return _given
    if isinstance(device, str):
        return device if device.partition(":")[0] in HERE else _given
    return _given if isinstance(device, torch.device) and device.type not in HERE else device


class OnGivenDevice(TorchFunctionMode):
    """Exchanges devices in the arguments of torch's functions."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` with the devices that there are."""
        if kwargs and "device" in kwargs:
            kwargs = {**kwargs, "device": resolve(kwargs["device"])}
        name = getattr(func, "__name__", "")
        if name == "to":
            args = (args[0], *(resolve(arg) if position == 0 else arg for position, arg in enumerate(args[1:])))
        elif name in ("cuda", "xpu", "hpu"):
            return args[0].to(_given)
        elif name == "pin_memory":
            return args[0]
        elif name == "type":
            args = tuple(arg.replace("torch.cuda.", "torch.") if isinstance(arg, str) else arg for arg in args)
        return func(*args, **(kwargs or {}))


def _enter_default(context: DeviceContext, device: Any) -> None:
    """Instead of `DeviceContext.__init__`: `with torch.device("cuda"):` and `torch.set_default_device`."""
    context.device = torch.device(resolve(device))


def is_named(sources: list[str]) -> bool:
    """Whether a program names an accelerator."""
    return any(_NAMED.search(source) for source in sources)


def redirect(given: torch.device | None) -> None:
    """From now on take `given`, or the processor, for accelerators, unless there is one."""
    global _given
    there_is_one = torch.cuda.is_available() if given is None else given.type not in HERE
    if there_is_one or _given is not None:
        return
    _given = given or torch.device("cpu")
    for name in _WITHOUT_EFFECT:
        setattr(torch.cuda, name, lambda *_, **__: None)
    for name in _TYPES:
        setattr(torch.cuda, f"{name}Tensor", getattr(torch, f"{name}Tensor"))
    DeviceContext.__init__ = _enter_default  # type: ignore[method-assign, assignment]
    OnGivenDevice().__enter__()  # type: ignore[no-untyped-call]
