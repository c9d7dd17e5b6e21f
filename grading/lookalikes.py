"""Classes under a wrong name: telling by parameters and body which block of the reference solution one is."""

import ast
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

# A class is taken for a block only from here on. No two blocks of the reference are more alike than 0.6, and most right
# answers in other words reach 0.6 with their own; of the sample hand-ins none is taken for another (a test holds it).
MIN_SIMILARITY = 0.5
MIN_MARGIN = 0.1  # ahead of the second best block


@dataclass(frozen=True)
class _Traits:
    features: Counter[str]
    required: tuple[int, int]  # parameters without default of __init__ and forward, `self` included


class Lookalikes:
    """The reference's classes, to compare with. `classes`: by blank id."""

    def __init__(self, classes: Mapping[str, ast.ClassDef]) -> None:
        self._traits = {name: _traits(node) for name, node in classes.items()}
        occurrences = Counter(feature for traits in self._traits.values() for feature in traits.features)
        count = len(self._traits)
        self._weights = {feature: math.log(1 + count / number) for feature, number in occurrences.items()}
        self._unseen = math.log(1 + count)  # weight of what no block of the reference has

    def best(self, node: ast.ClassDef, expected: Collection[str] = ()) -> str | None:
        """The id of the block that a class clearly is; None if it resembles none.

        Where several come close, one of the `expected` ones, by its place among its neighbours, is taken if it is the
        only such one.
        """
        traits = _traits(node)
        scores = {
            name: self.similarity(traits, other)
            for name, other in self._traits.items()
            if other.required == traits.required
        }
        top = max(scores.values(), default=0.0)
        close = [name for name, score in scores.items() if score > max(top - MIN_MARGIN, MIN_SIMILARITY)]
        if len(close) > 1:
            close = [name for name in close if name in expected]
        return close[0] if len(close) == 1 else None

    def neighbours(self, before: str | None, after: str | None) -> set[str]:
        """The blocks that stand in the reference right behind one block, or right before another."""
        names = list(self._traits)
        behind = {names[i + 1] for i, name in enumerate(names[:-1]) if name == before}
        return behind | {names[i - 1] for i, name in enumerate(names) if i and name == after}

    def similarity(self, one: _Traits, other: _Traits) -> float:
        """Weighted Jaccard similarity of what two classes mention, 0 to 1: rare identifiers count for more."""
        both = {feature: self._weights.get(feature, self._unseen) for feature in {*one.features, *other.features}}
        # How often something is mentioned tells a DownBlock from an UpBlock, but less than whether it is
        shared = sum(weight * _root(min(one.features[f], other.features[f])) for f, weight in both.items())
        total = sum(weight * _root(max(one.features[f], other.features[f])) for f, weight in both.items())
        return shared / total if total else 0.0


def _root(count: int) -> float:
    return math.sqrt(count)


def _traits(node: ast.ClassDef) -> _Traits:
    features: Counter[str] = Counter()
    required = {"__init__": 0, "forward": 0}
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name in required:
            arguments = [*method.args.posonlyargs, *method.args.args]
            required[method.name] = len(arguments) - len(method.args.defaults)
            features.update(f"{method.name}({argument.arg})" for argument in arguments)
            features.update(_called(method))
    return _Traits(features, (required["__init__"], required["forward"]))


def _called(method: ast.FunctionDef) -> list[str]:
    """Functions and classes that a method calls, by their last name, and patterns given as text."""
    found = []
    for child in ast.walk(method):
        match child:
            case ast.Call(func=ast.Attribute(attr=name, value=value)):
                if not (isinstance(value, ast.Name) and value.id == "self"):
                    found.append(name)
            case ast.Call(func=ast.Name(id=name)):
                found.append(name)
            case ast.BinOp(op=operator):
                found.append(type(operator).__name__)
    return [name for name in found if name not in ("super", "__init__")]
