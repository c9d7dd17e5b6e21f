"""One session: a child of the zygote that loads one program and answers the judge's requests about it.

From `load` on, this process is the student's. Nothing in here is a defence: the judge believes nothing it hears.
"""

import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import numpy
import torch

from . import confine, generators, namespace, remote, wire
from .errors import BadValue, fault_from

Verb = Callable[[dict[str, Any]], Any]


class Connection:
    """The guest's end of the wire. Requests come one at a time; each is answered under its own number."""

    def __init__(self, data: socket.socket) -> None:
        self._data = data
        self._nonce = ""
        self._sequence = 0

    def _read(self, size: int) -> bytearray:
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            count = self._data.recv_into(view)
            if not count:
                os._exit(0)  # the judge has gone
            view = view[count:]
        return buffer

    def receive(self) -> tuple[str, Any, list[torch.Tensor]]:
        """The next frame from the judge: its verb, body and tensors."""
        length, _ = wire.PREFIX.unpack(self._read(wire.PREFIX.size))
        header = json.loads(self._read(length))
        self._nonce, self._sequence = header["nonce"], header["sequence"]
        tensors = []
        for name, shape in header["tensors"]:
            dtype = wire.DTYPES[name]
            numel = 1
            for extent in shape:
                numel *= extent
            tensors.append(wire.tensor_from(self._read(numel * dtype.itemsize), dtype, shape))
        return header["verb"], header["body"], tensors

    def send(self, verb: str, body: Any, tensors: list[torch.Tensor]) -> None:
        """Answer the frame that was received last."""
        for buffer in wire.pack(self._nonce, self._sequence, verb, body, tensors):
            self._data.sendall(buffer)


class Session:
    """The program that was loaded, the objects made from it, and the verbs that work on them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loaded = namespace.Loaded()
        self._handles: dict[int, Any] = {}
        self._handle_count = 0
        self._tensors: list[torch.Tensor] = []  # of the request at hand

    def serve(self) -> None:
        """Answer requests until the judge ends the session."""
        while True:
            verb, body, self._tensors = self._connection.receive()
            handler: Verb = getattr(self, f"_do_{verb}")
            try:
                out: list[torch.Tensor] = []
                tree = wire.encode(handler(body), out, self._special)
                flush()
                self._connection.send("result", {"value": tree}, out)
            except wire.WireError as error:
                self._send_fault({"ending": "bad_value", "message": f"returned {error}"})
            except BaseException as error:
                self._send_fault(fault_from(error, self._loaded.files))

    def _send_fault(self, fault: dict[str, Any]) -> None:
        flush()
        self._connection.send("fault", fault, [])

    def _special(self, value: Any) -> wire.Tree | None:
        if type(value).__module__ == "numpy" and isinstance(value, numpy.generic):
            item = value.item()  # a number that numpy has wrapped
            return wire.encode(item, []) if type(item) in (int, float, bool) else None
        return None

    def _decode(self, tree: wire.Tree, tensors: list[torch.Tensor] | None = None) -> Any:
        specials = {
            "device": torch.device,
            "handle": self._handles.__getitem__,
            "callback": lambda number: self._loaded.model(number, self._ask),
        }
        return wire.decode(tree, self._tensors if tensors is None else tensors, specials)

    def _ask(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the judge's function `number`, in the middle of a request."""
        out: list[torch.Tensor] = []
        try:
            body = {
                "callback": number,
                "args": wire.encode(args, out, self._special),
                "kwargs": wire.encode(kwargs, out, self._special),
            }
        except wire.WireError as error:
            raise TypeError(f"the model was called with {error}") from None
        self._connection.send("callback", body, out)
        verb, answer, tensors = self._connection.receive()
        if verb == "refuse":
            raise RuntimeError(answer["message"])
        return self._decode(answer["value"], tensors)

    def _target(self, tree: wire.Tree) -> Any:
        return self._loaded.find(tree) if isinstance(tree, str) else self._decode(tree)

    def _module(self, tree: wire.Tree) -> torch.nn.Module:
        target = self._target(tree)
        if not isinstance(target, torch.nn.Module):
            raise BadValue(f"is {wire.describe(target)}, expected an nn.Module")
        return target

    # The verbs. Each takes the body of the request and returns what to send back.

    def _do_load(self, body: dict[str, Any]) -> dict[str, str]:
        self._loaded.load(body, self._decode)
        return self._loaded.kinds()

    def _do_changed_values(self, _: dict[str, Any]) -> list[str]:
        return self._loaded.changed_values()

    def _do_get(self, body: dict[str, Any]) -> Any:
        return self._loaded.find(body["name"])

    def _do_call(self, body: dict[str, Any]) -> Any:
        target = self._target(body["target"])
        with self._loaded.bound(self._decode(body["callbacks"])):
            return target(*self._decode(body["args"]), **self._decode(body["kwargs"]))

    def _do_construct(self, body: dict[str, Any]) -> int:
        made = self._target(body["name"])(*self._decode(body["args"]), **self._decode(body["kwargs"]))
        self._handle_count += 1
        self._handles[self._handle_count] = made
        return self._handle_count

    def _do_free(self, body: dict[str, Any]) -> None:
        self._handles.pop(body["handle"], None)

    def _do_parameters(self, body: dict[str, Any]) -> dict[str, torch.Tensor]:
        module = self._module(body["handle"])
        named = named_tensors(module, buffers=body["buffers"])
        if lazy := [name for name, tensor in named.items() if type(tensor) in wire.LAZY_TENSORS]:
            raise BadValue(f"has a lazy layer (`{lazy[0]}`), whose size is only known once it has run; name its size")
        return named

    def _do_set_parameters(self, body: dict[str, Any]) -> None:
        module = self._module(body["handle"])
        new = self._decode(body["tensors"])
        named = named_tensors(module, buffers=isinstance(new, dict))
        if isinstance(new, dict):
            if unknown := [name for name in new if name not in named]:
                raise BadValue(f"has no parameter {unknown[0]!r}")
            pairs = [(name, named[name], tensor) for name, tensor in new.items()]
        else:
            if len(new) != len(named):
                raise BadValue(f"has {len(named)} parameters, expected {len(new)}")
            pairs = [(name, old, tensor) for (name, old), tensor in zip(named.items(), new, strict=True)]
        for name, old, tensor in pairs:
            if old.shape != tensor.shape:
                raise BadValue(f"has a parameter {name!r} of shape {list(old.shape)}, expected {list(tensor.shape)}")
        with torch.no_grad():
            for _, old, tensor in pairs:
                old.copy_(tensor)

    def _do_execution_order(self, body: dict[str, Any]) -> list[str]:
        module = self._module(body["handle"])
        order: dict[str, None] = {}
        hooks = []
        for prefix, part in torch.nn.Module.named_modules(module):
            own = [f"{prefix}.{name}" if prefix else name for name, _ in part.named_parameters(recurse=False)]

            def note(_module: Any, _args: Any, names: list[str] = own) -> None:
                order.update(dict.fromkeys(names))

            hooks.append(part.register_forward_pre_hook(note))
        try:
            # Where the call fails, the names that came before tell which part was at work
            with torch.no_grad(), contextlib.suppress(Exception):
                module(*self._decode(body["args"]))
        finally:
            for hook in hooks:
                hook.remove()
        return list(order)

    def _do_vjp(self, body: dict[str, Any]) -> dict[str, Any]:
        target = self._target(body["target"])
        args = [with_gradient(arg) for arg in self._decode(body["args"])]
        inputs = [arg for arg in args if wants_gradient(arg)]
        parameters = dict(target.named_parameters()) if isinstance(target, torch.nn.Module) else {}
        with remote.recording() as answers, self._loaded.bound(self._decode(body["callbacks"])):
            outputs = target(*args, **self._decode(body["kwargs"]))
        flat = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
        cotangents = self._decode(body["cotangents"])
        if len(flat) != len(cotangents):
            raise BadValue(f"returned {len(flat)} values, expected {len(cotangents)}")
        pairs = []
        for output, cotangent in zip(flat, cotangents, strict=True):
            if cotangent is None:
                continue
            if type(output) not in wire.PLAIN_TENSORS:
                raise BadValue(f"returned {wire.describe(output)}, expected a plain tensor")
            if output.shape != cotangent.shape:
                raise BadValue(f"returned shape {list(output.shape)}, expected {list(cotangent.shape)}")
            if output.requires_grad:
                pairs.append((output, cotangent.to(output.dtype)))
        wanted = [*inputs, *parameters.values(), *(tensor for call in answers for tensor in call)]
        gradients: list[torch.Tensor | None] = [None] * len(wanted)
        reachable = [index for index, tensor in enumerate(wanted) if tensor.requires_grad]
        if pairs and reachable:
            # Of a sum of products: given the cotangents themselves, torch would import sympy to compare shapes (1 s)
            total = torch.stack([(output * cotangent).sum().double() for output, cotangent in pairs]).sum()
            found = torch.autograd.grad(total, [wanted[index] for index in reachable], allow_unused=True)
            for index, gradient in zip(reachable, found, strict=True):
                gradients[index] = gradient
        stream = iter(gradients)
        return {
            "outputs": outputs,
            "inputs_grad": [next(stream) if wants_gradient(arg) else None for arg in args],
            "parameters_grad": {name: next(stream) for name in parameters},
            "callbacks_grad": [[next(stream) for _ in call] for call in answers],
        }

    def _do_set_mode(self, body: dict[str, Any]) -> None:
        self._module(body["handle"]).train(body["training"])

    def _do_seed(self, body: dict[str, Any]) -> None:
        generators.reseed(body["seed"])


def named_tensors(module: torch.nn.Module, *, buffers: bool) -> dict[str, torch.Tensor]:
    """Parameters in order of registration, then, if asked for, buffers."""
    named: dict[str, torch.Tensor] = dict(torch.nn.Module.named_parameters(module))
    return named | dict(torch.nn.Module.named_buffers(module)) if buffers else named


def with_gradient(value: Any) -> Any:
    """A floating tensor as a leaf that collects a gradient; anything else as it is."""
    return value.clone().requires_grad_() if torch.is_tensor(value) and value.is_floating_point() else value


def wants_gradient(value: Any) -> bool:
    """Whether `with_gradient` made it a leaf."""
    return torch.is_tensor(value) and value.requires_grad


def flush() -> None:
    """What was printed has to be in the pipe before the answer is on the wire."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # student code may have replaced or closed it
            stream.flush()


def run(data: socket.socket) -> None:
    """Serve the judge on `data`, in a process that is closed off already. Never returns."""
    connection = Connection(data)
    _, body, _ = connection.receive()
    confine.limit_processor_time(body["cpu_seconds"])
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
    # At the end of its time the kernel or the root process asks it where it is: answered in C, whatever Python does
    faulthandler.register(signal.SIGXCPU, file=2, all_threads=False)
    generators.reseed(body["seed"])
    sys.argv = ["answers.py"]  # of the guest's own command line nothing is of use; `parse_args()` finds no arguments
    connection.send("ready", {}, [])
    Session(connection).serve()
