"""Every verb, on every backend that this machine has."""

from collections.abc import Iterator

import guests
import pytest
import torch
from torch import Tensor

from sandbox.faults import Ending, GuestFault
from sandbox.guest_client import Guest
from sandbox.limits import Deadline
from sandbox.program import Chunk, Device, Program
from sandbox.session import Callback, CallbackRefused

NETWORK = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.second = nn.Linear(3, 1)
        self.first = nn.Linear(width, 3)
        self.norm = nn.BatchNorm1d(3)
    def forward(self, x):
        return self.second(self.norm(self.first(x)))
"""


@pytest.fixture(scope="module", params=guests.BACKENDS)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with guests.guest(request.param) as started:
        yield started


def test_load_says_what_each_export_is(guest: Guest) -> None:
    source = """
    import torch, collections
    def f(x): return x
    class C: pass
    alphas = torch.ones(2)
    w = 2
    d = collections.OrderedDict()
    """
    exports = {"q": "f", "C": "C", "alphas": "alphas", "w": "w", "d": "d", "absent": "nowhere"}
    with guest.session(guests.LONG, seed=1) as session:
        kinds = session.load(guests.program(source, exports=exports))
    assert kinds == {
        "q": "function",
        "C": "class",
        "alphas": "tensor",
        "w": "number",
        "d": "other:collections.OrderedDict",
        "absent": "missing",
    }


def test_stand_ins_and_values_reach_the_student_under_other_names(guest: Guest) -> None:
    program = Program(
        values={"betas": torch.tensor([0.5, 0.25]), "device": Device("cpu")},
        stand_ins=(Chunk(file="ours.py", line=1, source="def ours(x): return x * betas"),),
        stand_in_names={"theirs": "ours"},
        chunks=(
            Chunk(file="a.py", line=1, source="betas[0] = 7.0"),
            Chunk(file="a.py", line=2, source="def f(x): return theirs(x).to(device)"),
            Chunk(file="a.py", line=9, source="sees_ours = 'ours' in globals()"),
        ),
        exports={"q": "f"},
    )
    with guest.session(guests.LONG, seed=1) as session:
        session.load(program)
        # what the student did to betas in place has not reached our code
        assert torch.equal(session.call("q", torch.ones(2)), torch.tensor([0.5, 0.25]))
        assert session.get("sees_ours") is False


def test_values_that_were_changed_in_place_are_named(guest: Guest) -> None:
    betas, alphas = torch.tensor([0.5, 0.25]), torch.tensor([0.5, 0.75])
    source = """
    import torch
    roots = B.sqrt()
    alphas = alphas.cumprod(0)              # a name bound anew
    steps = torch.linspace(0, 1, T)
    def view(): a_bar.numpy()[1] = 7.0
    def shape(): shaped.unsqueeze_(0)
    def default(x=B): x.mul_(2)
    """
    values = {"betas": betas, "B": betas, "alphas": alphas, "a_bar": alphas.cumprod(0), "shaped": betas.sqrt(), "T": 2}
    with guests.loaded(guest, source, values=values) as session:
        assert session.changed_values() == frozenset()
        session.call("default")
        assert session.changed_values() == {"betas", "B"}  # one tensor under two names
        session.call("view")
        session.call("shape")
        assert session.changed_values() == {"betas", "B", "a_bar", "shaped"}
    with guests.loaded(guest, "alphas = betas\nalphas.neg_().add_(1)", values=values) as session:
        assert session.changed_values() == {"betas", "B"}


def test_values_survive_both_ways(guest: Guest) -> None:
    odd = torch.tensor([-0.0, 1e-42, 3.5], dtype=torch.float32)
    value = {
        "dtypes": [torch.ones(2, 3, dtype=t) for t in (torch.float64, torch.bfloat16, torch.int64, torch.bool)],
        "scalar": (torch.tensor(2.5), 1, 1.5, True, None, "text"),
        "empty": torch.empty(0, 3),
        "strided": torch.arange(6.0).reshape(2, 3).t(),
        7: odd,
    }
    with guests.loaded(guest, "def same(x): return x") as session:
        back = session.call("same", value)
    assert torch.equal(back[7].view(torch.int32), odd.view(torch.int32))  # signs of zero and denormals too
    assert torch.equal(back["strided"], value["strided"])
    assert back["empty"].shape == (0, 3)
    assert [tensor.dtype for tensor in back["dtypes"]] == [tensor.dtype for tensor in value["dtypes"]]
    assert back["scalar"][1:] == (1, 1.5, True, None, "text")
    assert isinstance(back["scalar"][0], Tensor)


def test_parameters_modes_and_order(guest: Guest) -> None:
    with guests.loaded(guest, NETWORK) as session:
        handle = session.construct("Network", width=2)
        names = ["second.weight", "second.bias", "first.weight", "first.bias", "norm.weight", "norm.bias"]
        assert list(session.parameters(handle)) == names
        assert "norm.running_mean" in session.state(handle)
        order = session.execution_order(handle, torch.randn(4, 2))
        assert order == [*names[2:], *names[:2]]
        new = [torch.randn(tensor.shape) for tensor in session.parameters(handle).values()]
        session.set_parameters(handle, new)
        assert all(torch.equal(a, b) for a, b in zip(session.parameters(handle).values(), new, strict=True))
        session.set_parameters(handle, {"norm.running_mean": torch.full((3,), 5.0)})
        assert torch.equal(session.state(handle)["norm.running_mean"], torch.full((3,), 5.0))
        session.set_mode(handle, training=False)
        single = torch.randn(1, 2)  # batch norm refuses a batch of one while it trains
        session.call(handle, single)
        session.set_mode(handle, training=True)
        with pytest.raises(GuestFault, match="more than 1 value per channel"):
            session.call(handle, single)
        session.free(handle)
        with pytest.raises(GuestFault):
            session.parameters(handle)


def test_parameters_that_do_not_fit_are_told_apart(guest: Guest) -> None:
    with guests.loaded(guest, NETWORK) as session:
        handle = session.construct("Network")
        with pytest.raises(GuestFault, match="has 6 parameters, expected 1"):
            session.set_parameters(handle, [torch.ones(1)])
        with pytest.raises(GuestFault, match=r"'second.bias' of shape \[1\], expected \[2\]"):
            session.set_parameters(handle, {"second.bias": torch.ones(2)})
        with pytest.raises(GuestFault, match="no parameter 'third'"):
            session.set_parameters(handle, {"third": torch.ones(2)})


def test_vjp_agrees_with_torch(guest: Guest) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(2, 3)
    x, cotangent = torch.randn(4, 2, requires_grad=True), torch.randn(4, 3)
    expected = torch.autograd.grad(layer(x), [x, *layer.parameters()], cotangent)
    with guests.loaded(guest, "from torch.nn import Linear") as session:
        handle = session.construct("Linear", 2, 3)
        session.set_parameters(handle, list(layer.parameters()))
        found = session.vjp(handle, [x.detach()], cotangent)
    gradients = [found.inputs_grad[0], *found.parameters_grad.values()]
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert gradient is not None
        torch.testing.assert_close(gradient, wanted)
    torch.testing.assert_close(found.outputs, layer(x))


def test_vjp_says_where_no_gradient_flows(guest: Guest) -> None:
    source = """
    def f(x, y, n): return x * 2, y.detach()
    """
    with guests.loaded(guest, source) as session:
        found = session.vjp("f", [torch.ones(2), torch.ones(2), 3], [torch.ones(2), torch.ones(2)])
        with pytest.raises(GuestFault, match=r"returned shape \[2\], expected \[3\]"):
            session.vjp("f", [torch.ones(2), torch.ones(2), 3], [torch.ones(3), None])
    assert found.inputs_grad[0] is not None
    assert torch.equal(found.inputs_grad[0], torch.full((2,), 2.0))
    assert found.inputs_grad[1:] == [None, None]


def test_a_callback_is_a_model_that_the_judge_answers(guest: Guest) -> None:
    source = """
    import torch
    def loss(model, x, t):
        model.eval(); model.train()
        assert next(model.parameters()).device == x.device and isinstance(model, torch.nn.Module)
        return ((model(x, t, mask=[True]) - x) ** 2).sum()
    """
    seen = []

    def model(x: Tensor, t: Tensor, mask: list[bool]) -> Tensor:
        seen.append((x, t, mask))
        return torch.full_like(x, 3.0)

    x, t = torch.ones(2), torch.tensor([4])
    with guests.loaded(guest, source) as session:
        assert session.call("loss", Callback(model), x, t) == 8.0
        found = session.vjp("loss", [Callback(model), x, t], torch.ones(()))
    assert len(seen) == 2
    assert torch.equal(seen[0][0], x)
    assert torch.equal(seen[0][1], t)
    assert seen[0][2] == [True]
    ((gradient,),) = found.callbacks_grad
    assert gradient is not None
    assert torch.equal(gradient, torch.full((2,), 4.0))  # d/dm (m - x)^2 at m = 3, x = 1


def test_a_callback_may_refuse_and_globals_may_be_callbacks(guest: Guest) -> None:
    def refuse(x: Tensor) -> Tensor:
        raise CallbackRefused(f"expected [2], got {list(x.shape)}")

    source = """
    def f(x): return model(x)
    """
    with guests.loaded(guest, source) as session:
        assert torch.equal(session.call("f", torch.ones(1), callbacks={"model": lambda x: x + 1}), torch.tensor([2.0]))
        with pytest.raises(GuestFault, match=r"expected \[2\], got \[1\]") as caught:
            session.call("f", torch.ones(1), callbacks={"model": refuse})
        assert (caught.value.exception, caught.value.line) == ("RuntimeError", 2)
        with pytest.raises(GuestFault, match="name 'model' is not defined"):
            session.call("f", torch.ones(1))


def test_a_mistake_in_a_callback_of_ours_is_ours(guest: Guest) -> None:
    def broken(_: Tensor) -> Tensor:
        raise ZeroDivisionError

    with guests.loaded(guest, "def f(model, x): return model(x)") as session, pytest.raises(ZeroDivisionError):
        session.call("f", Callback(broken), torch.ones(1))
    assert guests.answers(guest)


def test_seeds_are_kept(guest: Guest) -> None:
    source = """
    import torch, numpy, random
    def draw(): return torch.rand(2), float(numpy.random.rand()), random.random()
    """
    drawn = []
    for seed in (5, 5, 6):
        with guest.session(guests.LONG, seed=seed) as session:
            session.load(guests.program(source))
            drawn.append(session.call("draw"))
            session.seed(seed)
            assert session.call("draw")[1:] == drawn[-1][1:]
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[0][0], drawn[2][0])
    torch.manual_seed(5)
    assert torch.equal(drawn[0][0], torch.rand(2))


def test_an_exception_has_its_place_in_the_students_file(guest: Guest) -> None:
    program = Program(
        chunks=(
            Chunk(file="nb.ipynb cell 3", line=4, source="import torch"),
            Chunk(file="nb.ipynb cell 3", line=10, source="def f(x):\n    y = 1\n    return torch.cat([x, y])"),
        )
    )
    with guest.session(guests.LONG, seed=1) as session:
        session.load(program)
        with pytest.raises(GuestFault) as caught:
            session.call("f", torch.ones(1))
    fault = caught.value
    assert (fault.ending, fault.exception, fault.file, fault.line, fault.function) == (
        Ending.RAISED,
        "TypeError",
        "nb.ipynb cell 3",
        12,
        "f",
    )


@pytest.mark.parametrize(
    ("source", "exception", "line"),
    [
        ("x = 1\ny = (", "SyntaxError", 2),
        ("x = 1\nimport sklearn", "ModuleNotFoundError", 2),
        ("x = 1\n\nundefined", "NameError", 3),
    ],
)
def test_what_fails_to_load_says_where(guest: Guest, source: str, exception: str, line: int) -> None:
    with guest.session(guests.LONG, seed=1) as session, pytest.raises(GuestFault) as caught:
        session.load(guests.program(source))
    assert (caught.value.exception, caught.value.file, caught.value.line) == (exception, guests.FILE, line)


def test_stubs_swallow_every_use(guest: Guest) -> None:
    source = """
    import matplotlib.pyplot as plt
    import utils.deep.down
    from utils import ddpm_utils
    from tqdm import tqdm, trange
    from tqdm.auto import tqdm as auto
    import tqdm.notebook
    from IPython.display import *

    class Dataset(utils.deep.Base):
        pass

    def f(xs):
        fig, plt.rcParams["a"] = plt.figure(), 1
        with ddpm_utils.timer("x"):
            for _ in ddpm_utils.rows: raise ValueError
        bar = tqdm(xs, desc="x")
        bar.set_postfix(loss=1)
        return [x for x in bar], list(trange(2)), list(auto(xs)), list(tqdm.__call__(xs))
    """
    with guests.loaded(guest, source, stubs=("matplotlib", "utils", "tqdm", "IPython")) as session:
        assert session.call("f", [1, 2]) == ([1, 2], [0, 1], [1, 2], [1, 2])


def test_compiling_is_the_identity_and_optimizers_work(guest: Guest) -> None:
    source = """
    import torch
    @torch.compile(mode="max-autotune")
    def f(x): return x + 1
    @torch.compile
    def g(x): return x + 2
    def train():
        model = torch.nn.Linear(1, 1, bias=False)
        compiled = torch.compile(model)
        model.compile()
        assert compiled is model
        torch.nn.init.zeros_(model.weight)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        adam = torch.optim.AdamW(model.parameters(), lr=0.0)
        for opt in (optimizer, adam):
            opt.zero_grad()
            model(torch.ones(1)).sum().backward()
            opt.step()
        return model.weight.item()
    """
    with guests.loaded(guest, source) as session:
        assert (session.call("f", 1), session.call("g", 1), session.call("train")) == (2, 3, -0.5)


def test_what_is_printed_is_kept(guest: Guest) -> None:
    source = """
    import sys, os
    print("loading")
    def f():
        print("calling", file=sys.stderr)
        os.write(1, b"raw \\xff\\n")
    """
    with guests.loaded(guest, source) as session:
        assert session.output == "loading\n"
        session.call("f")
        assert session.output == "loading\ncalling\nraw �\n"


def test_a_guest_computes_with_one_thread_and_may_take_more(guest: Guest) -> None:
    source = """
        import torch
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        def f(x): return (x @ x).sum()
    """
    with guests.loaded(guest, source) as session:
        assert session.get("before") == 1
        # forked from a process that computes with one thread; computing with two must not hang
        assert session.call("f", torch.ones(512, 512)) == 512.0**3


def test_sessions_may_overlap(guest: Guest) -> None:
    with guests.loaded(guest, "x = 1") as one, guests.loaded(guest, "x = 2") as two:
        assert (two.get("x"), one.get("x")) == (2, 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("float('nan')", "holds NaN"),
        ("__import__('numpy').ones(3)", "holds a numpy.ndarray"),
        ("[1, 2]", "is neither a tensor nor a number"),
    ],
)
def test_a_value_that_cannot_be_used_is_said_to_hold_it(guest: Guest, value: str, message: str) -> None:
    with guests.loaded(guest, f"value = {value}") as session, pytest.raises(GuestFault) as caught:
        session.get("value")
    assert (caught.value.ending, caught.value.message) == (Ending.BAD_VALUE, message)


def test_time_outs_say_where_the_code_was(guest: Guest) -> None:
    source = """
    import time
    def wait(): time.sleep(600)
    def sleeper():
        wait()
    def spinner():
        while True:
            pass
    """
    for name, function, lines in (("sleeper", "wait", {3}), ("spinner", "spinner", {7, 8})):
        with guests.loaded(guest, source, Deadline(cpu_seconds=1, wall_seconds=5)) as session:
            with pytest.raises(GuestFault) as caught:
                session.call(name)
            assert "Stack" not in session.output
        assert caught.value.ending is Ending.TIMED_OUT
        assert (caught.value.file, caught.value.function) == (guests.FILE, function)
        assert caught.value.line in lines


def test_a_place_that_is_made_up_is_cut_and_harmless(guest: Guest) -> None:
    source = """
    import time
    def attack():
        print("Stack (most recent call first):")
        print('  File "' + "x" * 5000 + '\\033[31m", line 999999999 in f', flush=True)
        time.sleep(600)
    """
    limit = Deadline(cpu_seconds=5, wall_seconds=2)
    with guests.loaded(guest, source, limit) as session, pytest.raises(GuestFault) as caught:
        session.call("attack")
    # The true one comes last
    assert (caught.value.file, caught.value.function) == (guests.FILE, "attack")
