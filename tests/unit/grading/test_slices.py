"""What belongs to an answer: statements that fill and change things, names bound twice, setups that set globals.

Every program here is right when Python runs it from top to bottom. Each answer is cut out and run with right values for
everything else, then all of them are run together.
"""

import contextlib
import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from grading.hand_in import HandIn, read_hand_in, read_hand_in_files
from grading.harvest import Answer, Harvest, harvest, pipeline_chunks
from grading.outcomes import BadInput
from reference.pack import load_pack
from sandbox.program import Chunk

PACK = load_pack("ddpm")
SOLUTION = PACK.solution.read_text(encoding="utf-8")
ALL = [blank.id for blank in PACK.blanks]
COEFFICIENTS = [blank.id for blank in PACK.blanks if blank.kind == "tensor"]

SCHEDULE = """\
alphas = 1.0 - betas
alphas_cumprod = torch.cumprod(alphas, dim=0)
sqrt_alphas_cumprod = torch.sqrt(alphas_cumprod)
sqrt_one_minus_alphas_cumprod = torch.sqrt(1.0 - alphas_cumprod)
"""
REST = """\
sqrt_recip_alphas = torch.sqrt(1.0 / alphas)
pred_noise_coeff = betas / torch.sqrt(1.0 - alphas_cumprod)
"""
assert SCHEDULE in SOLUTION
assert REST in SOLUTION

REFERENCE: dict[str, Any] = {}
exec(compile(SOLUTION, "solution.py", "exec"), REFERENCE)
GIVENS = {given.name: REFERENCE.get(given.name, 64) for given in PACK.file.givens}


def of(source: str) -> Harvest:
    return harvest(read_hand_in("a.py", source.encode()), PACK)


def of_cells(*cells: str) -> Harvest:
    content = {"nbformat": 4, "cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    return harvest(read_hand_in("n.ipynb", json.dumps(content).encode()), PACK)


def of_files(**files: str) -> Harvest:
    hand_in: HandIn = read_hand_in_files([(name.replace("__", "."), text.encode()) for name, text in files.items()])
    return harvest(hand_in, PACK)


def with_schedule(source: str) -> str:
    """The solution with other definitions of its coefficients."""
    return SOLUTION.replace(REST, "").replace(SCHEDULE, source)


def run(chunks: tuple[Chunk, ...], values: dict[str, Any]) -> SimpleNamespace:
    """As a guest loads it: without an optional statement that raises."""
    left_out: set[Chunk] = set()
    while True:
        copies = {name: value.clone() if torch.is_tensor(value) else value for name, value in values.items()}
        namespace: dict[str, Any] = {"__name__": "answer", **copies}
        for chunk in chunks:
            if chunk not in left_out:
                try:
                    exec(compile(chunk.source, chunk.file, "exec"), namespace)
                except (Exception, SystemExit):
                    if not chunk.optional:
                        raise
                    left_out.add(chunk)
                    break
        else:
            changed = [
                name for name, value in copies.items() if torch.is_tensor(value) and not value.equal(values[name])
            ]
            namespace["changed"] = changed
            return SimpleNamespace(**{name: value for name, value in namespace.items() if name != "__builtins__"})


def injected(found: Answer) -> dict[str, Any]:
    values = {}
    for part in (*PACK.file.givens, *PACK.blanks):
        if part.names[0] in found.givens | found.needs:
            values |= {name: REFERENCE.get(part.names[0], 64) for name in part.names}
    return values


def text(chunks: tuple[Chunk, ...]) -> str:
    return "\n".join(chunk.source for chunk in chunks)


def assert_right(found: Harvest, blank_ids: list[str] = COEFFICIENTS) -> None:
    """Each answer by itself is what the solution has, and so are all of them together."""
    assert {blank_id: found.answers[blank_id].status for blank_id in blank_ids} == dict.fromkeys(blank_ids, "found")
    together = run(pipeline_chunks(found, ALL), GIVENS)
    assert together.changed == []
    for blank_id in blank_ids:
        item = found.answers[blank_id]
        assert item.undefined == ()
        alone = run(item.chunks, injected(item))
        assert alone.changed == [], blank_id
        for names in (alone, together):
            same(blank_id, getattr(names, item.found_as or ""))


def same(blank_id: str, result: Any) -> None:
    expected = REFERENCE[blank_id]
    if torch.is_tensor(expected):
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-6)
    elif blank_id == "q":
        torch.manual_seed(0)
        x_0, t = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 70, 149])
        torch.manual_seed(1)
        ours = expected(x_0, t)
        torch.manual_seed(1)
        for one, other in zip(ours, result(x_0, t), strict=True):
            torch.testing.assert_close(one, other)
    elif isinstance(expected, type):
        arguments = {"SinusoidalPositionEmbedBlock": (8,), "GELUConvBlock": (3, 8, 8)}[blank_id]
        inputs = torch.rand(4) if blank_id.startswith("S") else torch.rand(2, 3, 8, 8)
        block, model = result(*arguments), expected(*arguments)
        model.load_state_dict(dict(zip(model.state_dict(), block.state_dict().values(), strict=True)))
        torch.testing.assert_close(block(inputs), model(inputs))
    else:
        assert result == expected


# --- statements that fill things

OBJECT = """
class Schedule:
    def __init__(self, steps):
        self.steps = steps
    def prepare(self, betas):
        self.alphas = 1.0 - betas
        self.bar = self.alphas.cumprod(0)
        return self
"""
FROM_OBJECT = """
alphas = schedule.alphas
alphas_cumprod = schedule.bar
sqrt_alphas_cumprod = schedule.bar.sqrt()
sqrt_one_minus_alphas_cumprod = (1 - schedule.bar).sqrt()
sqrt_recip_alphas = schedule.alphas.rsqrt()
pred_noise_coeff = betas / (1 - schedule.bar).sqrt()
"""
FROM_TABLE = FROM_OBJECT.replace("schedule.alphas", "table['alphas']").replace("schedule.bar", "table['bar']")
FROM_NAMESPACE = FROM_OBJECT.replace("schedule.", "ns.")


@pytest.mark.parametrize(
    "source",
    [
        f"{OBJECT}schedule = Schedule(T)\nschedule.prepare(betas)\n{FROM_OBJECT}",
        f"{OBJECT}schedule = Schedule(T)\n_ = schedule.prepare(betas)\n{FROM_OBJECT}",
        f"{OBJECT}schedule = Schedule(T)\nsame = schedule.prepare(betas)\n{FROM_OBJECT}",
        f"{OBJECT}schedule = Schedule(T)\nprint(schedule.prepare(betas))\n{FROM_OBJECT}",
        f"{OBJECT}schedule = Schedule(T)\nif T > 1:\n    schedule.prepare(betas)\n{FROM_OBJECT}",
        f"{OBJECT}schedule = Schedule(T)\nfor part in [schedule]:\n    part.prepare(betas)\n{FROM_OBJECT}",
        f"{OBJECT}schedule = Schedule(T)\nSchedule.prepare(schedule, betas)\n{FROM_OBJECT}",
        f"{OBJECT}schedule = Schedule(T)\nprepare = schedule.prepare\nprepare(betas)\n{FROM_OBJECT}",
        f"{OBJECT}schedule = Schedule(T)\n[part.prepare(betas) for part in [schedule]]\n{FROM_OBJECT}",
        f"{OBJECT}schedule = Schedule(T)\nlist(map(lambda part: part.prepare(betas), [schedule]))\n{FROM_OBJECT}",
        f"{OBJECT}def ready(s, b):\n    s.prepare(b)\nschedule = Schedule(T)\nready(schedule, betas)\n{FROM_OBJECT}",
        f"{OBJECT}def ready(b, *, s):\n    s.prepare(b)\nschedule = Schedule(T)\nready(betas, s=schedule)\n{FROM_OBJECT}",
        f"{OBJECT}schedule = Schedule(T)\ndef ready():\n    schedule.prepare(betas)\nready()\n{FROM_OBJECT}",
        f"{OBJECT}def ready(s):\n    inner(s)\ndef inner(s):\n    s.prepare(betas)\nschedule = Schedule(T)\nready(schedule)\n"
        f"{FROM_OBJECT}",
        f"class Schedule: pass\nschedule = Schedule()\nsetattr(schedule, 'alphas', 1 - betas)\n"
        f"schedule.bar = schedule.alphas.cumprod(0)\n{FROM_OBJECT}",
        f"class Schedule: pass\nschedule = Schedule()\nschedule.__dict__.update(alphas=1 - betas)\n"
        f"vars(schedule)['bar'] = schedule.alphas.cumprod(0)\n{FROM_OBJECT}",
        "class Schedule:\n    @classmethod\n    def prepare(cls, b):\n        cls.alphas, cls.bar = 1 - b, (1 - b).cumprod(0)\n"
        f"Schedule.prepare(betas)\nschedule = Schedule\n{FROM_OBJECT}",
        "class Schedule:\n    def __call__(self, b):\n        self.alphas, self.bar = 1 - b, (1 - b).cumprod(0)\n"
        f"schedule = Schedule()\nschedule(betas)\n{FROM_OBJECT}",
        f"table = {{}}\ntable.update(alphas=1 - betas)\ntable.setdefault('bar', table['alphas'].cumprod(0))\n{FROM_TABLE}",
        "class Table:\n    def __init__(self):\n        self.t = {}\n    def store(self, name, value):\n"
        "        self.t[name] = value\n    def __getitem__(self, name):\n        return self.t[name]\n"
        f"table = Table()\ntable.store('alphas', 1 - betas)\ntable.store('bar', (1 - betas).cumprod(0))\n{FROM_TABLE}",
        "from types import SimpleNamespace\nns = SimpleNamespace()\nvars(ns).update(alphas=1 - betas)\n"
        f"setattr(ns, 'bar', ns.alphas.cumprod(0))\n{FROM_NAMESPACE}",
        "import types\nns = types.SimpleNamespace(alphas=torch.empty(T), bar=torch.empty(T))\n"
        f"ns.alphas.copy_(1 - betas)\ntorch.cumprod(ns.alphas, 0, out=ns.bar)\n{FROM_NAMESPACE}",
        "import numpy as np\nns_b = betas.numpy()\nfirst, second = np.empty(T, 'float32'), np.empty(T, 'float32')\n"
        "np.copyto(first, 1 - ns_b)\nnp.multiply.accumulate(first, out=second)\n"
        "table = {'alphas': torch.from_numpy(first), 'bar': torch.from_numpy(second)}\n" + FROM_TABLE,
        "import numpy as np\nfirst = np.ones(T, 'float32')\nnp.subtract.at(first, np.arange(T), betas.numpy())\n"
        "table = {'alphas': torch.from_numpy(first), 'bar': torch.from_numpy(first).cumprod(0)}\n" + FROM_TABLE,
        "values = []\n[values.append(1 - b) for b in betas]\nbar = [torch.ones(())]\n"
        "list(map(lambda a: bar.append(bar[-1] * a), values))\n"
        "table = {'alphas': torch.stack(values), 'bar': torch.stack(bar[1:])}\n" + FROM_TABLE,
        "from collections import deque\nvalues = []\ndeque(map(values.append, 1 - betas), maxlen=0)\n"
        "table = {'alphas': torch.stack(values), 'bar': torch.stack(values).cumprod(0)}\n" + FROM_TABLE,
        "values = list(betas)\nvalues.pop(0), values.insert(0, betas[0])\n"
        "table = {'alphas': 1 - torch.stack(values), 'bar': (1 - torch.stack(values)).cumprod(0)}\n" + FROM_TABLE,
        "import random\nplaces = list(range(T))\nrandom.Random(0).shuffle(places)\nplaces.sort()\n"
        "table = {'alphas': 1 - betas[places], 'bar': (1 - betas[places]).cumprod(0)}\n" + FROM_TABLE,
    ],
)
def test_statements_that_fill_an_object_belong_to_what_is_taken_from_it(source: str) -> None:
    assert_right(of(with_schedule(source)))


@pytest.mark.parametrize(
    ("source", "blank_id"),
    [
        ("import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--w', type=float, default=2.0)\n"
         "args = parser.parse_args([])\nw = args.w\n", "w"),
        ("import argparse\nparser = argparse.ArgumentParser()\ngroup = parser.add_argument_group('sampling')\n"
         "group.add_argument('--w', type=float, default=2.0)\nargs, _ = parser.parse_known_args([])\nw = args.w\n", "w"),
        ("import configparser\nconfig = configparser.ConfigParser()\nconfig.read_string('[sampling]\\nw = 2.0')\n"
         "w = config.getfloat('sampling', 'w')\n", "w"),
        ("settings = {}\ndef option(name, value):\n    settings[name] = value\noption('w', 2.0)\nw = settings['w']\n", "w"),
        ("settings = {}\ndef option(function):\n    settings[function.__name__] = function\n    return function\n"
         "@option\ndef weight():\n    return 2.0\nw = settings['weight']()\n", "w"),
        ("class Registry:\n    def __init__(self):\n        self.found = {}\n    def register(self, function):\n"
         "        self.found[function.__name__] = function\n        return function\n"
         "registry = Registry()\n@registry.register\ndef weight():\n    return 2.0\nw = registry.found['weight']()\n", "w"),
    ],
)  # fmt: skip
def test_what_is_set_up_call_by_call(source: str, blank_id: str) -> None:
    assert_right(of(SOLUTION.replace("w = 2.0\n", source)), [*COEFFICIENTS, blank_id])


SINUSOIDAL = SOLUTION[SOLUTION.index("class SinusoidalPositionEmbedBlock") : SOLUTION.index("class EmbedBlock")]
_FORWARD = SINUSOIDAL[SINUSOIDAL.index("    def forward") : SINUSOIDAL.index("# %%")]
_INIT = SINUSOIDAL[: SINUSOIDAL.index("    def forward")]
_OUTSIDE = "\n".join(line.removeprefix("    ") for line in _FORWARD.split("\n"))


@pytest.mark.parametrize(
    ("before", "decorator", "after"),
    [
        ("def add_to_class(cls):\n    def wrapper(obj):\n        setattr(cls, obj.__name__, obj)\n    return wrapper\n",
         "@add_to_class(SinusoidalPositionEmbedBlock)\n", ""),
        ("def patch(f):\n    cls = f.__annotations__['self']\n    setattr(cls, f.__name__, f)\n    return f\n", "@patch\n", ""),
        ("", "", "SinusoidalPositionEmbedBlock.forward = forward\n"),
        ("", "", "setattr(SinusoidalPositionEmbedBlock, 'forward', forward)\n"),
        ("def attach(cls, **methods):\n    for name, method in methods.items():\n        setattr(cls, name, method)\n",
         "", "attach(SinusoidalPositionEmbedBlock, forward=forward)\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("deferred", [False, True])
def test_methods_that_are_added_to_a_class_belong_to_it(
    before: str, decorator: str, after: str, *, deferred: bool
) -> None:
    outside = _OUTSIDE
    if "annotations" in before:
        outside = outside.replace("self,", "self: SinusoidalPositionEmbedBlock,")
    late = "\ndef forward(self, other):\n    raise RuntimeError\n" if deferred and after else ""
    source = SOLUTION.replace(SINUSOIDAL, f"{before}\n{_INIT}\n{decorator}{outside}\n{after}{late}\n")
    assert_right(of(source), ["SinusoidalPositionEmbedBlock"])


def test_what_only_shows_trains_or_tests_is_no_part_of_a_slice() -> None:
    noise = """
import matplotlib.pyplot as plt
from torchvision.utils import make_grid
def show(values): plt.plot(values); plt.show()
def check(values): assert values.shape == (T,)
def preview(model):
    x = sample_w(model, torch.eye(10), 2.0)
    print(x.shape)
show(alphas)
check(alphas_cumprod)
plt.plot(sqrt_alphas_cumprod, label="a")
print(alphas, len(betas))
print(q(torch.zeros(4, 1, 8, 8), torch.arange(4))[0].shape)
make_grid(alphas)
preview(UNet(T, 1, 16))
model = UNet(T, 1, 16)
model.to(device)
alphas.min(), alphas.max()
q(torch.zeros(4, 1, 8, 8), torch.arange(4))
get_loss(model, torch.zeros(4, 1, 16, 16), torch.arange(4), torch.eye(10)[:4], torch.ones(4, 10))
torch.manual_seed(0)
torch.save(alphas, "alphas.pt")
"""
    plain, noisy = of(SOLUTION), of(SOLUTION + noise)
    for blank_id in ALL:
        assert text(noisy.answers[blank_id].chunks) == text(plain.answers[blank_id].chunks)
        assert noisy.answers[blank_id].needs == plain.answers[blank_id].needs


@pytest.mark.parametrize(
    "noise",
    [
        "def compare(a, b):\n    a.remember(b)\ncompare(alphas, FIXME)\n",  # not filled in
        "alphas.compare_with(table_of_mine)\n",  # no such thing
        "alphas.compare_with(loader)\nfor loader in data:\n    loss.backward()\n",
        "alphas.compare_with(alphas_cumprod)\n",  # which is made from alphas
        "alphas.compare_with(w)\n",  # raises
        "exit(alphas)\n",
    ],
)
def test_what_may_change_something_and_cannot_run_is_left_out(noise: str) -> None:
    found = of(SOLUTION + noise)
    assert_right(found)
    assert found.answers["alphas"].needs <= {"w"}


def test_what_may_change_an_answer_needs_nothing_that_needs_the_answer() -> None:
    found = of(SOLUTION + "class Log:\n    pass\nalphas.log(q, reverse_q)\nreverse_q.log(w)\n")
    assert found.answers["alphas"].needs == frozenset()
    assert found.answers["reverse_q"].needs == {"sqrt_recip_alphas", "pred_noise_coeff", "w"}
    assert found.answers["w"].needs == frozenset()


# --- a name bound twice


@pytest.mark.parametrize(
    "source",
    [
        SCHEDULE + "alphas_on_cpu = alphas.cpu()\nalphas = alphas_on_cpu.to(device)\n" + REST,
        SCHEDULE + REST + "alphas_raw = alphas\nraw2 = {'a': alphas_raw}\nalphas = raw2['a'].to(device)\n",
        SCHEDULE + "a64, abar64 = alphas.double(), alphas_cumprod.double()\n"
        "alphas, alphas_cumprod = a64.float(), abar64.float()\n" + REST,
        "alphas = 1.0 - betas\ndef again():\n    return alphas * 1\n" + SCHEDULE.replace("1.0 - betas", "again()") + REST,
        SCHEDULE + REST + "def moved(name):\n    return globals()[name]\nkept = alphas\ndef f():\n    return kept\nalphas = f()\n",
        "alphas = 1.0 - betas\nalphas_cumprod = alphas.cumprod(0)\nalphas = 1.0 - betas\n"
        + SCHEDULE.split("\n", 2)[2] + REST,
        "alphas_cumprod = 1.0 - betas\nalphas = alphas_cumprod\nalphas_cumprod = torch.cumprod(alphas, dim=0)\n"
        + SCHEDULE.split("\n", 2)[2] + REST,
    ],
)  # fmt: skip
def test_a_definition_may_need_an_earlier_one_of_its_name(source: str) -> None:
    blank_ids = COEFFICIENTS
    if source.startswith("alphas_cumprod"):  # a name on the way to another one
        blank_ids = ["alphas_cumprod"]
    assert_right(of(with_schedule(source)), blank_ids)


def test_together_each_answer_meets_the_value_that_another_has_where_it_stands() -> None:
    first = "alphas = 1.0 + betas\nalphas_cumprod = (2 - alphas).cumprod(0)\nalphas = 2 - alphas\n"
    found = of(with_schedule(first + SCHEDULE.split("\n", 2)[2] + REST))
    names = run(pipeline_chunks(found, ALL), GIVENS)
    for blank_id in COEFFICIENTS:
        same(blank_id, getattr(names, blank_id))


@pytest.mark.parametrize(
    ("blank_id", "wrapper"),
    [
        ("q", "plain_q = q\ndef q(x_0, t):\n    return plain_q(x_0, t)\n"),
        ("q", "def logged(f):\n    def inner(*a):\n        return f(*a)\n    return inner\nq = logged(q)\n"),
        ("q", "def logged(f):\n    def inner(*a):\n        return f(*a)\n    return inner\nkept = logged(q)\nq = kept\n"),
        ("q", "functions = {'q': q}\nq = lambda x_0, t: functions['q'](x_0, t)\n"),
        ("q", "from functools import partial\nbase = partial(q)\ndef q(x_0, t):\n    return base(x_0, t)\n"),
        ("q", "q.plain = q\nq = q.plain\n"),
        ("q", "class Forward:\n    run = staticmethod(q)\nq = Forward.run\n"),
        ("GELUConvBlock", "Base = GELUConvBlock\nclass GELUConvBlock(Base):\n    pass\n"),
        ("GELUConvBlock", "class GELUConvBlock(GELUConvBlock):\n    pass\n"),
        ("GELUConvBlock", "Base = GELUConvBlock\nclass Middle(Base): pass\nGELUConvBlock = Middle\n"),
        ("GELUConvBlock", "_init = GELUConvBlock.__init__\ndef new_init(self, *a):\n    _init(self, *a)\n"
         "GELUConvBlock.__init__ = new_init\n"),
        ("w", "half = w / 2\nw = 2 * half\n"),
    ],
)  # fmt: skip
def test_what_was_defined_before_may_be_wrapped(blank_id: str, wrapper: str) -> None:
    found = of(SOLUTION + "\n" + wrapper)
    assert_right(found, [*COEFFICIENTS, blank_id])
    assert blank_id not in found.answers[blank_id].needs


def test_a_decorator_may_be_defined_in_a_later_cell() -> None:
    source = SOLUTION.replace("def q(", "@logged\ndef q(")
    assert_right(of_cells(source, "def logged(f):\n    return f\n"), [*COEFFICIENTS, "q"])


def test_a_placeholder_that_is_filled_in_later_is_nobodys_value() -> None:
    source = with_schedule("alphas = FIXME\nalphas_cumprod = torch.cumprod(alphas, dim=0)\n" + SCHEDULE + REST)
    assert_right(of(source))
    source = with_schedule("alphas = FIXME\nalphas = alphas.to(device)\n" + SCHEDULE.split("\n", 1)[1] + REST)
    assert of(source).answers["alphas"].status == "not_attempted"


# --- values that are changed in place


@pytest.mark.parametrize(
    ("source", "guilty", "changed"),
    [
        ("sqrt_alphas_cumprod = alphas_cumprod.sqrt_()", "sqrt_alphas_cumprod", "alphas_cumprod"),
        ("sqrt_alphas_cumprod = torch.sqrt(alphas_cumprod, out=alphas_cumprod)", "sqrt_alphas_cumprod", "alphas_cumprod"),
        ("sqrt_alphas_cumprod = torch.empty(T)\nsqrt_alphas_cumprod[:] = alphas_cumprod.sqrt_()",
         "sqrt_alphas_cumprod", "alphas_cumprod"),
        ("sqrt_alphas_cumprod = torch.empty(T)\nsqrt_alphas_cumprod.copy_(alphas_cumprod.sqrt_())",
         "sqrt_alphas_cumprod", "alphas_cumprod"),
        ("sqrt_alphas_cumprod = alphas_cumprod\nsqrt_alphas_cumprod.sqrt_()", "sqrt_alphas_cumprod", "alphas_cumprod"),
        ("sqrt_alphas_cumprod = alphas_cumprod\nsqrt_alphas_cumprod **= 0.5", "sqrt_alphas_cumprod", "alphas_cumprod"),
        ("def root(x):\n    x.sqrt_()\n    return x\nsqrt_alphas_cumprod = root(alphas_cumprod)",
         "sqrt_alphas_cumprod", "alphas_cumprod"),
        ("with torch.no_grad():\n    sqrt_alphas_cumprod = alphas_cumprod.sqrt_()", "sqrt_alphas_cumprod", "alphas_cumprod"),
        ("alphas_cumprod = alphas.cumprod_(0)", "alphas_cumprod", "alphas"),
        ("alphas_cumprod = alphas\nfor i in range(1, T):\n    alphas_cumprod[i] *= alphas_cumprod[i - 1]",
         "alphas_cumprod", "alphas"),
        ("alphas = betas.neg_().add_(1)", "alphas", "betas"),
        ("sqrt_one_minus_alphas_cumprod = alphas_cumprod.neg_().add_(1.0).sqrt_()",
         "sqrt_one_minus_alphas_cumprod", "alphas_cumprod"),
    ],
)  # fmt: skip
def test_who_changes_another_answer_is_not_a_part_of_it(source: str, guilty: str, changed: str) -> None:
    line = next(line for line in SCHEDULE.split("\n") if line.startswith(f"{guilty} ="))
    for program in (
        SOLUTION.replace(line, source),
        with_schedule(
            "with torch.no_grad():\n    "
            + (SCHEDULE + REST).replace(line, source).strip().replace("\n", "\n    ")
            + "\n"
        ),
    ):
        found = of(program)
        for blank_id in COEFFICIENTS:
            item = found.answers[blank_id]
            alone = run(item.chunks, injected(item))
            names = {changed, "B"} if changed == "betas" else {changed}
            assert set(alone.changed) - {"B"} == (names - {"B"} if blank_id == guilty else set()), blank_id
            if blank_id != guilty:
                same(blank_id, getattr(alone, blank_id))


def test_a_change_in_place_that_makes_nothing_else_belongs_to_what_it_changes() -> None:
    source = with_schedule(
        "alphas = betas.clone()\nalphas.neg_().add_(1)\n"
        "alphas_cumprod, sqrt_alphas_cumprod = torch.ones(T), torch.ones(T)\n"
        "for i in range(T):\n    alphas_cumprod[i] = alphas_cumprod[i - 1] * alphas[i] if i else alphas[0]\n"
        "    sqrt_alphas_cumprod = alphas_cumprod.sqrt()\n" + "\n".join(SCHEDULE.split("\n")[3:]) + REST
    )
    assert_right(of(source))


# --- setups

_SETUP = "global alphas, alphas_cumprod, sqrt_alphas_cumprod, sqrt_one_minus_alphas_cumprod\n" + SCHEDULE


def _function(name: str, body: str, parameters: str = "") -> str:
    return f"def {name}({parameters}):\n    " + body.strip().replace("\n", "\n    ") + "\n"


@pytest.mark.parametrize(
    "source",
    [
        _function("setup", _SETUP) + "setup()\n",
        _function("setup", '"""All coefficients."""\n' + _SETUP + "return\n") + "setup()\n",
        _function("setup", _SETUP, "b, verbose=False").replace("betas", "b") + "setup(betas)\n",
        _function("setup", _SETUP + "return alphas") + "a_again = setup()\n",
        _function("setup", _SETUP) + _function("main", "setup()\nmodel = None") + "main()\n",
        _function("setup", _SETUP, "b").replace("betas", "b") + _function("main", "setup(betas)\nx = 1") + "main()\n",
        _function("main", _SETUP + "w = 3\nc_drop_prob = 7\nreturn None") + 'if __name__ == "__main__":\n    main()\n',
        'if __name__ == "__main__":\n    ' + _SETUP.split("\n", 1)[1].strip().replace("\n", "\n    ") + "\n",
        _function(
            "main", _SETUP + "model = UNet(T, 1, 16)\nfor x, c in loader:\n    loss = get_loss(model, x, c)\n"
            "    loss.backward()\nshow(model)",
        ) + "main()\n",
        _function(
            "setup", "global alphas, alphas_cumprod\nbase = 1.0\nalphas = base - betas\n"
            "def product(x):\n    return torch.cumprod(x, dim=0) * base\nalphas_cumprod = product(alphas)\n",
        ) + "setup()\n" + "\n".join(SCHEDULE.split("\n")[2:]),
        "class Setup:\n    " + _function("run", _SETUP, "self").strip().replace("\n", "\n    ") + "\nSetup().run()\n",
        "try:\n    " + SCHEDULE.strip().replace("\n", "\n    ") + "\nfinally:\n    pass\n",
    ],
)  # fmt: skip
def test_functions_that_set_globals_are_definitions_where_they_are_called(source: str) -> None:
    found = of(with_schedule(source + REST))
    assert_right(found, [*COEFFICIENTS, "w"])
    assert found.answers["c_drop_prob"].status == "found"


def test_local_variables_of_main_are_nobodys_answers() -> None:
    found = of("def main():\n    global alphas\n    alphas = 1 - betas\n    w = 3\n    c_drop_prob = 0.3\nmain()\n")
    assert found.answers["alphas"].status == "found"
    assert found.answers["w"].status == "not_attempted"
    assert found.answers["c_drop_prob"].status == "not_attempted"


def test_a_function_that_is_not_called_sets_nothing() -> None:
    assert of(_function("setup", _SETUP)).answers["alphas"].status == "not_attempted"


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    global w\n    f()\nf()\n",
        "def f():\n    global w\n    g()\ndef g():\n    global w\n    f()\n    w = 2.0\nf()\n",
        "def f():\n    global w\n" + "    f()\n" * 500 + "    w = 2.0\nf()\n",
        "\n".join(
            f"def f{i}():\n    global w\n" + f"    f{i + 1}()\n" * 8 + "    w = 2.0" for i in range(40)
        ) + "\ndef f40(): pass\nf0()\n",
    ],
)  # fmt: skip
def test_functions_that_call_each_other_end(source: str) -> None:
    with contextlib.suppress(BadInput):  # more statements than anyone writes
        of(source)


# --- modules beside a notebook


def test_a_notebook_is_the_main_program_of_what_lies_beside_it() -> None:
    schedule, rest = SOLUTION.split("# %% [markdown]\n# ## 2. Forward", 1)
    notebook = {
        "nbformat": 4,
        "cells": [
            {"cell_type": "code", "source": source}
            for source in (
                "import importlib\nimport schedule\nfrom schedule import *\nimport math",
                "importlib.reload(schedule)\nschedule = importlib.reload(schedule)",
                "# " + rest,
                "alphas = schedule.alphas.to(device)",
            )
        ],
    }
    found = harvest(
        read_hand_in_files([("main.ipynb", json.dumps(notebook).encode()), ("schedule.py", schedule.encode())]), PACK
    )
    assert_right(found, [*COEFFICIENTS, "q", "w"])
    assert found.answers["alphas"].file == "main.ipynb, cell 4"


def test_a_notebook_is_not_imported_from() -> None:
    found = of_files(q__py="from train import helper\nimport train\ndef q(x_0, t):\n    return helper(x_0)\n")
    assert found.answers["q"].status == "found"
    cells = {"nbformat": 4, "cells": [{"cell_type": "code", "source": "from q import q as f\nq = f"}]}
    found = harvest(
        read_hand_in_files([("q.ipynb", json.dumps(cells).encode()), ("q.py", b"def q(x_0, t):\n    return 5\n")]), PACK
    )
    item = found.answers["q"]
    assert run(item.chunks, {}).q(0, 0) == 5
