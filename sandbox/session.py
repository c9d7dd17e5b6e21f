"""One session of a guest, as the judge sees it: the verbs that it answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from torch import Tensor

from sandbox import validation
from sandbox.exchange import Exchange
from sandbox.faults import Ending, GuestFault
from sandbox.guest import wire
from sandbox.program import Device, Program


@dataclass(frozen=True)
class Handle:
    """An object that lives in a session."""

    id: int


@dataclass(frozen=True)
class Callback:
    """A function of the judge's, passed as an argument: in the guest it is an `nn.Module` that one can call.

    It may raise `CallbackRefused`; student code then sees a `RuntimeError`.
    """

    function: Callable[..., Any]


class CallbackRefused(Exception):  # noqa: N818
    """The model does not accept what it was called with; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Vjp:
    """Outputs, and the cotangents pulled back; None where no gradient flows."""

    outputs: Any
    inputs_grad: list[Tensor | None]  # one for each positional argument; None for what is no floating tensor
    parameters_grad: dict[str, Tensor | None]  # of the target, where it is a module
    callbacks_grad: list[list[Tensor | None]]  # for each call of a callback, of each floating tensor it returned


class Session:
    """One process of the guest. After `load` it is the student's, and nothing it says is believed.

    Every verb raises `GuestFault`. Of its endings `raised`, `bad_value` and a refused allocation leave the session
    usable; after any other one every further verb raises the same fault again.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._callbacks: list[Callable[..., Any]] = []  # of the request at hand
        self._value_names: frozenset[str] = frozenset()  # of what was loaded

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def output(self) -> str:
        """What student code has printed so far, capped."""
        return self._exchange.output

    def close(self) -> None:
        """End the session and every process that it started."""
        self._exchange.close()

    def load(self, program: Program) -> dict[str, str]:
        """Run a program's code, and say what each export is.

        Returns export -> "function", "class", "tensor", "number", "other:TYPE" or "missing".
        """
        tensors: list[Tensor] = []
        body = {
            "chunks": [asdict(chunk) for chunk in program.chunks],
            "stand_ins": [asdict(chunk) for chunk in program.stand_ins],
            "stand_in_names": program.stand_in_names,
            "exports": program.exports,
            "stubs": list(program.stubs),
            "model": asdict(program.model),
            "values": self._encode_values(program.values, tensors),
        }
        self._value_names = frozenset(program.values)
        kinds = self._request("load", body, tensors)
        if not isinstance(kinds, dict) or kinds.keys() != program.exports.keys():
            raise self._exchange.violated("did not say what it defines")
        return {name: validation.text(kind, validation.NAME_LENGTH) or "?" for name, kind in kinds.items()}

    def changed_values(self) -> frozenset[str]:
        """Names of the program's values whose tensors student code has changed in place since `load`.

        A name bound anew is no change. A tensor with several names is told under each. The guest says so itself, as it
        says everything: one that hides a change could as well have put its values back.
        """
        names = self._request("changed_values", {}, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._exchange.violated("did not name values")
        return self._value_names & frozenset(names)

    def get(self, name: str) -> Tensor | int | float | bool:
        """The tensor or number behind an export or a global name."""
        try:
            found = self._request("get", {"name": name}, [])
        except GuestFault as fault:
            if fault.ending is Ending.BAD_VALUE:  # in the words of calls; a value returns nothing
                raise GuestFault(fault.ending, f"holds {fault.message.removeprefix('returned ')}") from None
            raise
        if not isinstance(found, Tensor | int | float):
            raise GuestFault(Ending.BAD_VALUE, "is neither a tensor nor a number")
        return found

    def call(
        self,
        target: str | Handle,
        *args: Any,
        callbacks: Mapping[str, Callable[..., Any]] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call an exported or global name, or an object. `callbacks` binds global names for the time of the call."""
        tensors: list[Tensor] = []
        return self._request("call", self._call_body(target, args, kwargs, callbacks, tensors), tensors)

    def construct(self, name: str, *args: Any, **kwargs: Any) -> Handle:
        """Call a name and keep what it returns in the session."""
        tensors: list[Tensor] = []
        body = {"name": name, "args": self._encode(args, tensors), "kwargs": self._encode(kwargs, tensors)}
        number = self._request("construct", body, tensors)
        if type(number) is not int:
            raise self._exchange.violated("did not say what it constructed")
        return Handle(number)

    def free(self, handle: Handle) -> None:
        """Forget an object."""
        self._request("free", {"handle": handle.id}, [])

    def parameters(self, handle: Handle) -> dict[str, Tensor]:
        """The module's parameters by name, in the order of their registration."""
        return self._tensors("parameters", {"handle": self._encode(handle, []), "buffers": False})

    def state(self, handle: Handle) -> dict[str, Tensor]:
        """Parameters, then buffers."""
        return self._tensors("parameters", {"handle": self._encode(handle, []), "buffers": True})

    def set_parameters(self, handle: Handle, new: Sequence[Tensor] | Mapping[str, Tensor]) -> None:
        """Copy tensors into a module: all parameters in order of registration, or parameters and buffers by name."""
        tensors: list[Tensor] = []
        plain = dict(new) if isinstance(new, Mapping) else list(new)
        body = {"handle": self._encode(handle, []), "tensors": self._encode(plain, tensors)}
        self._request("set_parameters", body, tensors)

    def execution_order(self, handle: Handle, *args: Any) -> list[str]:
        """Names of parameters in the order in which the modules that own them ran: a hint, never to be trusted."""
        tensors: list[Tensor] = []
        body = {"handle": self._encode(handle, []), "args": self._encode(args, tensors)}
        names = self._request("execution_order", body, tensors)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._exchange.violated("did not name parameters")
        return names

    def vjp(
        self,
        target: str | Handle,
        args: Sequence[Any],
        cotangents: Tensor | Sequence[Tensor | None],
        kwargs: Mapping[str, Any] | None = None,
        callbacks: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Vjp:
        """Call, and pull cotangents back to arguments, parameters and what callbacks returned.

        `cotangents` has one tensor for each value that the target returns, of that value's shape, or None for what is
        no floating tensor.
        """
        tensors: list[Tensor] = []
        body = self._call_body(target, tuple(args), kwargs or {}, callbacks, tensors)
        plain = [cotangents] if isinstance(cotangents, Tensor) else list(cotangents)
        body["cotangents"] = self._encode(plain, tensors)
        found = self._request("vjp", body, tensors)
        try:
            result = Vjp(**found)
        except TypeError:
            raise self._exchange.violated("sent no gradients") from None
        inputs, parameters, calls = result.inputs_grad, result.parameters_grad, result.callbacks_grad
        if not isinstance(inputs, list) or not isinstance(parameters, dict) or not isinstance(calls, list):
            raise self._exchange.violated("sent no gradients")
        flat = [*inputs, *parameters.values(), *(g for call in calls for g in (call if type(call) is list else [0]))]
        if len(inputs) != len(args) or not all(gradient is None or type(gradient) is Tensor for gradient in flat):
            raise self._exchange.violated("sent no gradients")
        return result

    def set_mode(self, handle: Handle, training: bool) -> None:
        """`module.train(training)`."""
        self._request("set_mode", {"handle": self._encode(handle, []), "training": training}, [])

    def seed(self, seed: int) -> None:
        """Seed torch, numpy and random in the session."""
        self._request("seed", {"seed": seed}, [])

    def _call_body(
        self,
        target: str | Handle,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        callbacks: Mapping[str, Callable[..., Any]] | None,
        tensors: list[Tensor],
    ) -> dict[str, Any]:
        self._callbacks.clear()
        return {
            "target": self._encode(target, []),
            "args": self._encode(args, tensors),
            "kwargs": self._encode(dict(kwargs), tensors),
            "callbacks": self._encode({name: Callback(f) for name, f in (callbacks or {}).items()}, []),
        }

    def _encode(self, value: Any, tensors: list[Tensor]) -> wire.Tree:
        def special(item: Any) -> wire.Tree | None:
            if isinstance(item, Handle):
                return {"handle": item.id}
            if isinstance(item, Device):
                return {"device": item.name}
            if isinstance(item, Callback):
                self._callbacks.append(item.function)
                return {"callback": len(self._callbacks) - 1}
            return None

        return wire.encode(value, tensors, special)

    def _encode_values(self, values: Mapping[str, Any], tensors: list[Tensor]) -> wire.Tree:
        """As a dictionary; what has several names is sent once."""
        trees: dict[int, wire.Tree] = {}
        for value in values.values():
            if id(value) not in trees:
                trees[id(value)] = self._encode(value, tensors)
        return {"dict": [[name, trees[id(value)]] for name, value in values.items()]}

    def _tensors(self, verb: str, body: dict[str, Any]) -> dict[str, Tensor]:
        found = self._request(verb, body, [])
        if not isinstance(found, dict) or not all(
            type(tensor) is Tensor and isinstance(name, str) for name, tensor in found.items()
        ):
            raise self._exchange.violated("did not send parameters")
        return found

    def _request(self, verb: str, body: dict[str, Any], tensors: list[Tensor]) -> Any:
        """Ask, answer whatever calls of callbacks come in between, and return the value of the result."""
        header, received = self._exchange.ask(verb, body, tensors)
        while header.verb == "callback":
            header, received = self._exchange.ask(*self._answer(header, received))
        return self._value(header.body.get("value"), received)

    def _answer(self, header: validation.Header, received: list[Tensor]) -> tuple[str, dict[str, Any], list[Tensor]]:
        """What to tell the guest, which has called one of the judge's functions."""
        number = header.body.get("callback")
        if type(number) is not int or not 0 <= number < len(self._callbacks):
            raise self._exchange.violated("called a model that it was not given")
        try:
            args = self._value(header.body.get("args"), received)
            kwargs = self._value(header.body.get("kwargs"), received)
        except GuestFault as fault:  # the guest waits for an answer that will not come
            raise self._exchange.end(fault) from None
        if not isinstance(args, tuple) or not isinstance(kwargs, dict) or not all(type(k) is str for k in kwargs):
            raise self._exchange.violated("called a model with no arguments")
        tensors: list[Tensor] = []
        try:
            tree = self._encode(self._callbacks[number](*args, **kwargs), tensors)
        except CallbackRefused as refused:
            return "refuse", {"message": str(refused)}, []
        except BaseException:
            self.close()
            raise
        return "answer", {"value": tree}, tensors

    def _value(self, tree: Any, received: list[Tensor]) -> Any:
        try:
            return validation.value(tree, received)
        except validation.Violation as violation:
            raise self._exchange.violated(str(violation)) from None
        except validation.Unfit as unfit:
            raise GuestFault(Ending.BAD_VALUE, f"returned {unfit}") from None
