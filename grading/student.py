"""The guest as a pack author sees it: an object whose attributes are the student's answers.

    student.alphas_cumprod(betas=betas)        a value, evaluated under these givens
    x_t, noise = student.q(x_0, t)             a function, called in the guest
    block = student.GELUConvBlock(3, 16, 8)    a class; the object stays in the guest

Nothing of the student's runs in this process: each use is one request to a session of the guest.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from grading.harvest import Harvest, closure
from grading.reference import CALL_FILE, Reference, program_for_blank, program_for_pipeline
from reference.pack import Blank
from sandbox.faults import Ending, GuestFault
from sandbox.guest_client import Guest
from sandbox.limits import Deadline
from sandbox.program import Chunk, Program
from sandbox.session import Callback, Handle, Session, Vjp

# Loaded beside a student's function or class: calls it, or an object of it, and returns the arguments too, as the call
# left them.
_KEEP = "call_and_keep_arguments"


class LoadFault(Exception):  # noqa: N818  (an outcome, not an error of ours)
    """The student's definitions did not load. Every other check of the blank would meet the same."""

    def __init__(self, fault: GuestFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Under what an answer runs."""

    givens: Mapping[str, Any]  # by canonical name
    own: frozenset[str]  # the blanks for which there are the author's own definitions, and no stand-ins


class Student:
    """One answer of a student, for one check. Its session begins with the first use and ends with `close`.

    Args:
        harvest: the student's answers.
        blank: the one under check.
        reference: where stand-ins and expected values come from.
        guest: where student code runs.
        givens: values of the assignment's names for this check, by canonical name.
        seed: of the guest's random numbers.
        deadline: for everything that the check asks of the guest.
    """

    def __init__(
        self,
        *,
        harvest: Harvest,
        blank: Blank,
        reference: Reference,
        guest: Guest,
        givens: Mapping[str, Any],
        seed: int,
        deadline: Deadline,
    ) -> None:
        self._harvest = harvest
        self._blank = blank
        self._reference = reference
        self._guest = guest
        self._givens = dict(givens)
        self._seed = seed
        self._deadline = deadline
        self._own: frozenset[str] = frozenset()
        self._changed: dict[str, None] = {}
        self._session: Session | None = None
        self._output = ""

    def __getattr__(self, name: str) -> Any:
        blank = self.__dict__["_blank"]
        if name != blank.id:
            raise AttributeError(f"This check is for the blank {blank.id!r}; its guest has no {name!r}.")
        if blank.kind == "class":
            return RemoteClass(self, name)
        if blank.kind == "function":
            return RemoteFunction(self, name)
        return RemoteValue(self, name)

    def given(self, **values: Any) -> SimpleNamespace:
        """Change givens of this check, for a new session; return what the solution defines under them."""
        if "betas" in values:
            values.setdefault("T", len(values["betas"]))
        self._note_changes()
        self.close()
        self._givens.update(values)
        return self.solution()

    def solution(self, **values: Any) -> SimpleNamespace:
        """What the reference solution defines under the givens of this check, and with these values for blanks."""
        return self._reference.namespace(**self._givens, **values)

    def own_tensors(self, *blank_ids: str) -> dict[str, Tensor]:
        """The author's own answers to other blanks, under the givens of this check: those that are tensors."""
        found = {}
        for blank_id in blank_ids:
            if self._harvest.answers[blank_id].status != "found":
                continue
            program = program_for_pipeline(self._harvest, [blank_id], frozenset(), self._reference, self._givens)
            with suppress(GuestFault), self._guest.session(self._deadline, seed=self._seed) as session:
                session.load(program)
                value = session.get(blank_id)
                if isinstance(value, Tensor):
                    found[blank_id] = value
        return found

    def mistaken(self) -> dict[str, Any]:
        """What the blank would be, under the givens of this check, with each known misconception about it, by id."""
        return self._reference.mistaken(self._blank.id, **self._givens)

    def seed(self, seed: int) -> None:
        """Seed the guest's random numbers."""
        self.session().seed(seed)

    @property
    def setting(self) -> Setting:
        """Under what the answer runs now."""
        return Setting(givens=dict(self._givens), own=self._own)

    def begin_anew(self, setting: Setting) -> None:
        """From here on the answer runs under this, in a new session."""
        self.close()
        self._changed.clear()
        self._givens = dict(setting.givens)
        self._own = setting.own

    def changed_values(self) -> list[str]:
        """Names of injected values that the answer has changed in place, as its source has them.

        Those of earlier sessions of this try are among them.
        """
        self._note_changes()
        return list(self._changed)

    @property
    def output(self) -> str:
        """What the student's code has printed in this check."""
        return self._output + (self._session.output if self._session else "")

    def session(self) -> Session:
        """The session, with the answer loaded. Raises `LoadFault` where it does not load."""
        if self._session is None:
            self._session = self._guest.session(self._deadline, seed=self._seed)
            try:
                self._session.load(self._program())
            except GuestFault as fault:
                raise LoadFault(fault) from fault
        return self._session

    def close(self) -> None:
        """End the session. The next use begins a new one."""
        if self._session is not None:
            session, self._session = self._session, None
            self._output += session.output
            session.close()

    def _note_changes(self) -> None:
        if self._session is None:
            return
        with suppress(GuestFault):  # it has ended by now, which whoever used it last has been told
            changed = self._session.changed_values()
            if changed:
                # One tensor may have several names
                chunks = self._harvest.answers[self._blank.id].chunks
                nodes = (node for chunk in chunks for node in ast.walk(ast.parse(chunk.source)))
                used = {node.id for node in nodes if isinstance(node, ast.Name)}
                self._changed.update(dict.fromkeys(sorted(changed & used or changed)))

    def source(self) -> str:
        """The statement that defines the answer, and what it needs, as the student wrote it: for words, not to run."""
        return "\n".join(chunk.source for chunk in self._harvest.answers[self._blank.id].chunks)

    def parameter_names(self) -> tuple[str, ...] | None:
        """Names of the parameters, without `self`, as the source has them; None where it does not say."""
        answer = self._harvest.answers[self._blank.id]
        return _parameter_names(answer.chunks, answer.found_as or self._blank.id)

    def _program(self) -> Program:
        name = self._blank.id
        if self._own:
            own = {blank for blank in (name, *self._own) if self._harvest.answers[blank].status == "found"}
            replaced = closure(self._harvest, [name]) - own
            program = program_for_pipeline(self._harvest, [name], replaced, self._reference, self._givens)
        else:
            program = program_for_blank(self._harvest, name, self._reference, self._givens)
        if self._blank.kind == "class":
            source = f"def {_KEEP}(module, *args):\n    return module(*args), args\n"
        elif self._blank.kind == "function":
            function = program.exports[name]
            kept = "[arg if hasattr(arg, 'mul_') else None for arg in args]"  # a model cannot be sent back
            source = f"def {_KEEP}(*args):\n    return {function}(*args), {kept}\n"
        else:
            return program
        return replace(program, chunks=(*program.chunks, Chunk(file=CALL_FILE, line=1, source=source)))


class _Remote:
    def __init__(self, student: Student, name: str) -> None:
        self._student = student
        self._name = name


class RemoteValue(_Remote):
    """A tensor or a number of the student's."""

    def __call__(self, **givens: Any) -> Any:
        """Evaluate it, under these givens where there are any."""
        if givens:
            self._student.given(**givens)
        return self._student.session().get(self._name)


class RemoteFunction(_Remote):
    """A function of the student's. A Python function among the arguments becomes a model that the judge plays."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._student.session().call(self._name, *_marshal(args), **_marshal_named(kwargs))

    def keeping(self, *args: Any) -> tuple[Any, tuple[Any, ...]]:
        """What the call returns, and the arguments as it left them."""
        return _kept(self._student.session().call(_KEEP, *_marshal(args)), args)

    def vjp(self, args: Sequence[Any], cotangents: Sequence[Tensor | None]) -> Vjp:
        """Outputs, and the product of the cotangents with the Jacobian."""
        return self._student.session().vjp(self._name, _marshal(args), list(cotangents))


class RemoteClass(_Remote):
    """A class of the student's, derived from `nn.Module`."""

    def __call__(self, *args: Any, **kwargs: Any) -> "RemoteModule":
        session = self._student.session()
        return RemoteModule(session, session.construct(self._name, *args, **kwargs))


class RemoteModule:
    """A network in the guest."""

    def __init__(self, session: Session, handle: Handle) -> None:
        self._session = session
        self._handle = handle

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._session.call(self._handle, *args, **kwargs)

    def keeping(self, *args: Any) -> tuple[Any, tuple[Any, ...]]:
        """What the call returns, and the arguments as it left them."""
        return _kept(self._session.call(_KEEP, self._handle, *args), args)

    def parameters(self) -> dict[str, Tensor]:
        """Parameters by name, in the order of registration."""
        return self._session.parameters(self._handle)

    def set_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        """Set these parameters, by name."""
        self._session.set_parameters(self._handle, dict(tensors))

    def execution_order(self, *args: Any) -> list[str]:
        """Names of the parameters in the order in which they were used: a hint from the guest, not to be trusted."""
        return self._session.execution_order(self._handle, *args)

    def vjp(self, args: Sequence[Any], cotangents: Sequence[Tensor | None]) -> Vjp:
        """Outputs, and the product of the cotangents with the Jacobian."""
        return self._session.vjp(self._handle, args, list(cotangents))

    def train(self) -> None:
        """Switch to training mode."""
        self._session.set_mode(self._handle, training=True)

    def eval(self) -> None:
        """Switch to evaluation mode."""
        self._session.set_mode(self._handle, training=False)


def _kept(answer: Any, args: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
    """The result of a call and the arguments after it, each a tensor where one went in."""
    if isinstance(answer, tuple | list) and len(answer) == 2 and isinstance(answer[1], tuple | list):
        result, after = answer[0], tuple(answer[1])
        if [isinstance(value, Tensor) for value in after] == [isinstance(value, Tensor) for value in args]:
            return result, after
    raise GuestFault(Ending.BAD_VALUE, "did not leave its arguments what they were")


def _marshal(args: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(Callback(arg) if _is_model(arg) else arg for arg in args)


def _marshal_named(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Callback(arg) if _is_model(arg) else arg for name, arg in kwargs.items()}


def _is_model(argument: object) -> bool:
    return isinstance(argument, Callable) and not isinstance(argument, Tensor)  # type: ignore[arg-type]


def _parameter_names(chunks: Sequence[Chunk], name: str) -> tuple[str, ...] | None:
    for chunk in reversed(chunks):
        for node in ast.parse(chunk.source).body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return _names(node.args)
            if isinstance(node, ast.ClassDef) and node.name == name:
                for part in node.body:
                    if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                        return _names(part.args)[1:]
                return None
    return None


def _names(arguments: ast.arguments) -> tuple[str, ...]:
    return tuple(argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))
