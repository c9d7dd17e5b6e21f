"""`torch.compile` and `torch.jit` without a compiler: compiling costs minutes and changes no result.

torch imports its compiler, `torch._dynamo`, even when an optimizer takes its first step, only to be told that nothing
is being compiled; that import takes 3 s, in every session anew. In a guest it is a stub.
"""

import sys
from typing import Any

import torch

from . import stubs

COMPILER = "torch._dynamo"
# Of `torch.jit`: what compiles a function or a network, and reads its source for that, which has no file here
JIT = ("script", "trace", "trace_module", "script_method", "script_if_tracing", "freeze", "optimize_for_inference")


class Dynamo(stubs.StubModule):
    """What is left of `torch._dynamo`: marks functions as not to be compiled, by doing nothing."""

    def disable(self, fn: Any = None, *_: Any, **__: Any) -> Any:
        """The function itself, or a decorator that returns it."""
        return (lambda function: function) if fn is None else fn


class ScriptModule(torch.nn.Module):
    """`torch.jit.ScriptModule` to derive from: a network like any other. No plain network is an instance of it."""


def compile_identity(model: Any = None, *_: Any, **__: Any) -> Any:
    """`torch.compile(model)`, or the decorator `torch.compile(mode=...)`; `torch.jit.script` and its like."""
    return (lambda function: function) if model is None else model


def compile_in_place(*_: Any, **__: Any) -> None:
    """`module.compile()`."""


def make_inert() -> None:
    """Replace the compiler. Call it before anything imports `torch._dynamo`."""
    stub = Dynamo(COMPILER, COMPILER)
    sys.modules[COMPILER] = stub
    torch._dynamo = stub
    stubs.install([COMPILER])  # for its submodules
    torch.compile = compile_identity
    for name in JIT:
        setattr(torch.jit, name, compile_identity)
    torch.jit.ScriptModule = ScriptModule  # type: ignore[misc, assignment]
    torch.nn.Module.compile = compile_in_place  # type: ignore[method-assign]
