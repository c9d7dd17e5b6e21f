"""Hyper-parameters that a hand-in sets, read from its text, and how such values usually do.

Advice for the student's own training: the grader trains with its recipe, so most of them have no part in a grading, and
none ever counts for points.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from grading.hand_in import HandIn
from grading.harvest import Answer
from grading.report import GenerationRun, HyperParameter
from grading.source import parse
from reference.pack import Pack

_Source = tuple[str, int, str]  # what tracebacks call it, its first line there, text
Range = Literal["safe", "risky", "failing"]

_OPTIMIZERS = frozenset({"Adam", "AdamW", "SGD", "RMSprop", "NAdam", "RAdam", "Adamax", "Adagrad"})
_LEARNING_RATE = "learning rate"
MEASURED = "w"  # the one value whose effect the grading has measured by itself


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """Ranges of one hyper-parameter, ends included, and what to say outside of the safe one."""

    assigned_to: tuple[str, ...]  # names at top level
    safe: tuple[float, float]
    risky: tuple[float, float]
    low: str
    high: str

    def range_of(self, value: float) -> Range:
        if self.safe[0] <= value <= self.safe[1]:
            return "safe"
        return "risky" if self.risky[0] <= value <= self.risky[1] else "failing"


_RULES = {
    # The sweeps in docs/recipes.md: below 1 digits are hard to tell, from 2 on accuracy is level; beyond 5 contrast
    # grows past what real digits have (docs/evaluation.md)
    "w": _Rule(
        assigned_to=("w",),
        safe=(2, 5),
        risky=(1, 8),
        low="With little guidance digits are often hard to tell.",
        high="Strong guidance makes digits hard-edged and alike.",
    ),
    # For Adam at the course's width of 64 to 128 channels without warm-up; Ho et al. 2020 (appendix B) take 2e-4
    _LEARNING_RATE: _Rule(
        assigned_to=("lr", "LR", "learning_rate", "LEARNING_RATE"),
        safe=(5e-5, 2e-4),
        risky=(2e-5, 5e-4),
        low="Steps this small need many more epochs than you may want to wait for. 5e-5 to 2e-4 is a good range.",
        high="Steps this large can throw a network back that has learned something, unless the rate is warmed up and "
        "lowered again. 5e-5 to 2e-4 is a good range.",
    ),
    # Ho & Salimans 2022 (section 4): 0.1 and 0.2 do about as well, 0.5 worse; without any there is nothing to guide by
    "share of dropped context": _Rule(
        assigned_to=("c_drop_prob", "drop_prob"),
        safe=(0.05, 0.25),
        risky=(0.01, 0.5),
        low="The network hardly learns to do without context, which guidance needs.",
        high="The network rarely learns what a label means.",
    ),
    # Ho et al. 2020 take 1,000; the course 150. With fewer than 50 a linear schedule to 0.02 does not end in noise
    "diffusion steps T": _Rule(
        assigned_to=("T", "timesteps", "TIMESTEPS"),
        safe=(100, 1000),
        risky=(50, 4000),
        low="With few steps each one has to take away much noise at once. 100 to 1,000 are usual.",
        high="More steps make sampling slow and bring little. 100 to 1,000 are usual.",
    ),
    # One pass over MNIST is 60,000 images; the recipe mnist16 takes 160,000
    "epochs": _Rule(
        assigned_to=("epochs", "EPOCHS", "n_epochs", "N_EPOCHS", "num_epochs", "NUM_EPOCHS"),
        safe=(3, 100),
        risky=(1, 500),
        low="One or two passes over the data are often too few for clear digits.",
        high="So many passes take long; look at samples in between, and stop when they are good.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class _Setting:
    value: float
    place: str


def read_hyperparameters(
    hand_in: HandIn, answers: Mapping[str, Answer], pack: Pack, generation: GenerationRun | None
) -> list[HyperParameter]:
    """The values that a hand-in sets, the later one where there are several, and what to know about them.

    What is a blank has the value of its answer, by id: the one in force. A value that the starter has too is the
    assignment's, and nothing is said about it. `generation` is the run as submitted, against whose accuracy nothing is
    said either. Nothing is run.
    """
    given = _settings([(pack.starter(".py").name, 1, pack.starter(".py").read_text(encoding="utf-8"))])
    pieces = [piece for file in hand_in.files for piece in file.pieces if piece.fault is None]
    found = _settings([(piece.label, piece.line, piece.source) for piece in pieces])
    for name, rule in _RULES.items():
        for answer in (answers[alias] for alias in rule.assigned_to if alias in answers):
            setting = _settings([(chunk.file, chunk.line, chunk.source) for chunk in answer.chunks]).get(name)
            found.pop(name, None)
            if setting is not None:
                found[name] = setting
    passing = generation if generation is not None and generation.passed else None
    return [
        _describe(name, found[name], passing)
        for name in _RULES
        if name in found and not (name in given and given[name].value == found[name].value)
    ]


def _describe(name: str, setting: _Setting, passing: GenerationRun | None) -> HyperParameter:
    rule = _RULES[name]
    usual = rule.range_of(setting.value)
    advice = "" if usual == "safe" else rule.low if setting.value < rule.safe[0] else rule.high
    if name == MEASURED and passing is not None and passing.accuracy is not None and usual != "safe":
        usual = "risky"  # it did not fail
        advice = f"Here it read {passing.accuracy.estimate:.1%} correctly. In general: {advice}"
    return HyperParameter(name=name, value=setting.value, place=setting.place, range=usual, advice=advice)


def _settings(sources: Iterable[_Source]) -> dict[str, _Setting]:
    """What is set, by the name of its rule."""
    names = {alias: name for name, rule in _RULES.items() for alias in rule.assigned_to}
    assigned: dict[str, _Setting] = {}
    found: dict[str, _Setting] = {}
    in_optimizers: dict[str, _Setting] = {}
    for file, first_line, node in _nodes(sources):
        place = f"{file}, line {first_line + node.lineno - 1}"
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            value = _number(node.value, assigned)
            if value is not None:
                setting = _Setting(value=value, place=place)
                assigned[node.targets[0].id] = setting
                if node.targets[0].id in names:
                    found[names[node.targets[0].id]] = setting
        elif isinstance(node, ast.Call):
            value = _number(_learning_rate(node), assigned)
            if value is not None:
                in_optimizers[_LEARNING_RATE] = _Setting(value=value, place=place)
    return found | in_optimizers


def _nodes(sources: Iterable[_Source]) -> Iterator[tuple[str, int, ast.Assign | ast.Call]]:
    """Assignments at top level, and calls anywhere, in order: file, its first line, node."""
    for file, first_line, source in sources:
        for statement in parse(source).body:
            if isinstance(statement, ast.Assign):
                yield file, first_line, statement
            for node in ast.walk(statement):
                if isinstance(node, ast.Call):
                    yield file, first_line, node


def _learning_rate(call: ast.Call) -> ast.expr | None:
    """The learning rate among an optimizer's arguments: `lr`, which is also the second one."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in _OPTIMIZERS:
        return None
    keyword = next((keyword.value for keyword in call.keywords if keyword.arg == "lr"), None)
    return keyword or (call.args[1] if len(call.args) > 1 else None)


def _number(node: ast.expr | None, assigned: Mapping[str, _Setting]) -> float | None:
    """What a number, its negative, or a name that was given one says."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand, assigned)
        return None if value is None else -value
    if isinstance(node, ast.Name) and node.id in assigned:
        return assigned[node.id].value
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return _finite(node.value)
    return None


def _finite(value: int | float) -> float | None:
    """As a float; None where it is too large for one, since a report can hold neither."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) < float("inf") else None
