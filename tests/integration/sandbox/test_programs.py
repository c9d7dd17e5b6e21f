"""What programs of students may do in a guest beyond plain computing, on every backend that this machine has."""

from collections.abc import Iterator

import guests
import pytest
import torch

from sandbox.faults import Ending, GuestFault
from sandbox.guest_client import Guest
from sandbox.program import Chunk, Device, Model, Program
from sandbox.session import Callback

STUBS = ("matplotlib", "utils", "tqdm", "IPython", "PIL", "wandb", "torch.utils.tensorboard")


@pytest.fixture(scope="module", params=guests.BACKENDS)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with guests.guest(request.param) as started:
        yield started


def test_stubs_swallow_every_use(guest: Guest) -> None:
    source = """
    import matplotlib.pyplot as plt
    import utils.deep.down
    from utils import ddpm_utils
    from tqdm import tqdm, trange
    from tqdm.auto import tqdm as auto
    import tqdm.notebook
    from IPython.display import *
    from torch.utils.tensorboard import SummaryWriter

    class Dataset(utils.deep.Base):
        def __init__(self, root):
            super().__init__(root, train=True)
            self.root = root

    @ddpm_utils.timed
    @ddpm_utils.logged("x")
    def decorated(x): return x + 1

    def f(xs):
        fig, plt.rcParams["a"] = plt.figure(), 1
        with ddpm_utils.timer("x"), SummaryWriter() as writer:
            writer.add_scalar("loss", 1, 2)
        bar = tqdm(xs, desc="x")
        bar.set_postfix(loss=1)
        bar.update(1)
        bar.close()
        auto.write("x")
        assert Dataset("here").root == "here" and decorated(1) == 2
        return [x for x in bar], list(trange(2)), list(auto(xs)), list(tqdm.__call__(xs)), len(bar)
    """
    with guests.loaded(guest, source, stubs=STUBS) as session:
        assert session.call("f", [1, 2]) == ([1, 2], [0, 1], [1, 2], [1, 2], 2)


PLOTTING = """
import numpy as np, torch
import matplotlib.pyplot as plt
from matplotlib import cm
from PIL import Image
from IPython.display import display, clear_output
import utils
"""


@pytest.mark.parametrize(
    "statement",
    [
        "fig, ax = plt.subplots()",
        "fig, (a, (b, c)) = plt.subplots(1, 3)",
        "fig, axes = plt.subplots(2, 5); axes[0, 1].imshow(x.numpy()); axes[1][2].axis('off')",
        "fig, *rest = plt.subplots()",
        "fig, axes = plt.subplots(2, 5)\\nfor a, img in zip(axes.flat, x): a.imshow(img)",
        "fig, axes = plt.subplots(2, 5)\\nfor i, a in enumerate(axes.ravel()): a.imshow(x[i])",
        "fig, axes = plt.subplots(2, 5)\\nfor row in axes:\\n  for a in row: a.set_title(f'{a:.3f} {a!r} {a}')",
        "fig, axes = plt.subplots(2, 5); axes = np.array(axes).reshape(-1); [axes[i].imshow(x[i]) for i in range(3)]",
        "fig, axes = plt.subplots(2, 5); axes = np.asarray(axes).flatten(); axes[7].plot([1])",
        "fig, axes = plt.subplots(2, 5); np.atleast_1d(axes)[3].plot(); np.ravel(axes)[4].plot()",
        "lines, = plt.plot([1, 2]); counts, bins, _ = plt.hist(x.flatten(), bins=10); counts / counts.sum()",
        "w, h = Image.open('x.png').size; figsize = (int(w / 100), float(h), round(w), max(w, 3), abs(-h), w % 2 == 0)",
        "img = Image.fromarray(np.uint8(x[0])).resize((9, 9)); y = torch.as_tensor(np.array(img)) / 255 - x; y.mean()",
        "torch.tensor(utils.data), torch.from_numpy(utils.data), torch.stack([utils.x, x]), torch.zeros((utils.n, 2))",
        "torch.nn.functional.mse_loss(utils.f(x), x); x @ utils.m; x[utils.i]; x.view(utils.n, -1); utils.n * x",
        "np.sqrt(utils.a) + np.ones(3); np.ones(3) * utils.a; np.concatenate([utils.a, np.ones(3)])",
        "cm.viridis(x) + 1; 1 - cm.viridis(x); not utils.flag; utils.n < 3 <= utils.n; utils.n // 2; 2 ** -utils.n",
        "for i in range(utils.n): pass",
        "for i in range(len(utils.loader)): print('%d' % utils.n, '{:>8}'.format(utils.n), utils.n + ' text')",
        "images, labels = next(iter(utils.loader)); first = next(utils.loader)",
        "while utils.running(): pass",
        "with plt.style.context('dark'), utils.timer() as t: t.elapsed += 1; del t.x; t['a'] = 1; del t['a']",
        "display(fig := plt.gcf()); clear_output(wait=True); fig.tight_layout(); plt.close(fig)",
        "isinstance(x, Image.Image); isinstance(x, (Image.Image, int)); 3 in utils.names; utils.n and 1; {utils.n: 1}",
        "def g(image: Image.Image | None, other: 'plt.Axes' = None) -> plt.Axes: return image",
        "import copy; copy.copy(plt.rc); copy.deepcopy(utils.config); sorted([utils.n, utils.m]); sum([utils.a, 1])",
        "print(utils, plt, utils.n, [utils.n], repr(utils.n), str(utils.n)); print(*utils.args, **utils.options)",
    ],
)
def test_plotting_is_harmless(guest: Guest, statement: str) -> None:
    body = statement.replace("\\n", "\n")
    source = PLOTTING + "def f(x):\n" + "".join(f"    {line}\n" for line in body.splitlines()) + "    return x + 1\n"
    with guests.loaded(guest, source, stubs=STUBS) as session:
        assert torch.equal(session.call("f", torch.ones(9, 4, 4)), torch.full((9, 4, 4), 2.0))
        assert "guest" not in session.output


@pytest.mark.parametrize(
    "expression",
    [
        "utils.n",
        "utils",
        "x + utils.f(x)",
        "utils.f(x) * x",
        "torch.nn.functional.mse_loss(x, utils.f(x))",
        "(x, torch.tensor(utils.data))",
        "torch.nn.Linear(utils.n, 3)(x)",
        "x[utils.i]",
        "np.ones(3) * utils.a",
        "model(utils.f(x))",
    ],
)
def test_an_answer_that_rests_on_a_stub_is_told_so(guest: Guest, expression: str) -> None:
    source = f"import utils, torch, numpy as np\ndef f(model, x): return {expression}"
    with guests.loaded(guest, source, stubs=STUBS) as session, pytest.raises(GuestFault) as caught:
        session.call("f", Callback(lambda x: x), torch.ones(3))
    assert "something that comes from `utils`, which exists only where the course runs" in caught.value.message
    with guests.loaded(guest, "from utils import w", stubs=STUBS) as session, pytest.raises(GuestFault) as caught:
        session.get("w")
    assert caught.value.message == "holds something that comes from `utils`, which exists only where the course runs"


def test_what_refuses_a_stub_names_its_module_and_nothing_of_ours(guest: Guest) -> None:
    source = """
    import utils, math, einops, torch
    from tqdm import tqdm
    def unknown(): return einops.rearrange(utils.x, "a b -> b a")
    def joined(): return ", ".join([utils.x])
    def sized(x): return x.sum(dim=utils.d)
    def bar(): return tqdm([1])
    """
    words = []
    with guests.loaded(guest, source, stubs=STUBS) as session:
        for name in ("unknown", "joined", "sized", "bar"):
            with pytest.raises(GuestFault) as caught:
                session.call(name, *([torch.ones(2)] if name == "sized" else []))
            words.append(caught.value.message)
    assert words[-1] == "returned a tqdm.tqdm"
    assert "utils, which exists only where the course runs" in words[1]
    assert not any(ours in text for text in words for ours in ("Stub", "stub", "guest", "Absent"))


CUDA = [
    "x.cuda()",
    "x.to('cuda')",
    "x.to('cuda:0', torch.float32)",
    "x.to(device='cuda')",
    "x.to(torch.device('cuda'))",
    "x.to('mps')",
    "x.to(0) if torch.device('cuda') else x",
    "x.cuda(0, non_blocking=True)",
    "x.pin_memory().cuda()",
    "x * torch.ones(2, device='cuda')",
    "x * torch.ones_like(x, device=torch.device('cuda', 0))",
    "x * torch.tensor([1.0, 1.0], device='cuda') + torch.as_tensor(0.0, device='cuda')",
    "x + torch.zeros((2,)).new_zeros(2, device='cuda')",
    "x.type(torch.cuda.FloatTensor)",
    "x.type('torch.cuda.FloatTensor')",
    "x * torch.cuda.FloatTensor([1, 1])",
    "x + 0 * torch.randn(2, generator=torch.Generator(device='cuda').manual_seed(1), device='cuda')",
    "torch.nn.Identity().cuda()(x)",
    "torch.nn.Sequential(torch.nn.LayerNorm(2, device='cuda')).to('cuda').cuda()(x) * 0 + x",
    "model.cuda().to('cuda')(x.cuda())",
    "x.to(next(model.to('cuda').parameters()).device)",
    "with_context(x)",
    "by_default(x)",
    "with_autocast(x)",
]


@pytest.mark.parametrize("expression", CUDA)
def test_what_goes_to_an_accelerator_goes_where_device_is(guest: Guest, expression: str) -> None:
    source = f"""
    import torch
    def with_context(x):
        torch.cuda.synchronize(); torch.cuda.empty_cache(); torch.cuda.manual_seed_all(1)
        with torch.device("cuda"):
            return x * torch.ones(2)
    def by_default(x):
        torch.set_default_device("cuda")
        return x * torch.ones(2)
    def with_autocast(x):
        with torch.autocast("cuda", enabled=False), torch.cuda.amp.autocast(enabled=False):
            return x * 1
    def f(model, x): return {expression}
    """
    x = torch.ones(2)
    with guests.loaded(guest, source, values={"device": Device("cpu")}) as session:
        assert torch.equal(session.call("f", Callback(lambda x: x), x), x)
    with guests.loaded(guest, source) as session:  # an answer that does not read `device` is not given any
        assert torch.equal(session.call("f", Callback(lambda x: x), x), x)


def test_compiling_is_the_identity_and_optimizers_work(guest: Guest) -> None:
    source = """
    import torch
    from torch import jit
    from torch.jit import script
    @torch.compile(mode="max-autotune")
    def f(x): return x + 1
    @torch.compile
    def g(x): return x + 2
    @script
    def h(x):
        # type: (Tensor) -> Tensor
        return x + 3
    class Block(jit.ScriptModule):
        @jit.script_method
        def forward(self, x): return self.more(x)
        @torch.jit.export
        def more(self, x): return x + 4
    class Other(torch.nn.Module):
        @torch.jit.ignore
        @torch.compiler.disable
        def forward(self, x): return x + 5
    @torch.inference_mode()
    def i(x): return x + 6
    @torch.inference_mode
    def j(x): return x + 7
    def train():
        model = torch.nn.Linear(1, 1, bias=False)
        compiled = torch.compile(model)
        model.compile()
        assert compiled is model
        assert torch.jit.script(model) is model and torch.jit.trace(model, torch.ones(1)) is model
        torch.nn.init.zeros_(model.weight)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        adam = torch.optim.AdamW(model.parameters(), lr=0.0)
        for opt in (optimizer, adam):
            opt.zero_grad()
            model(torch.ones(1)).sum().backward()
            opt.step()
        return model.weight.item()
    def all(x): return [f(x), g(x), h(x), jit.script(Block())(x), torch.jit.script(Other())(x), i(x), j(x)]
    """
    with guests.loaded(guest, source) as session:
        found = session.call("all", torch.zeros(1))
        assert [value.item() for value in found] == [1, 2, 3, 4, 5, 6, 7]
        assert session.call("train") == -0.5
        assert session.vjp("i", [torch.zeros(1)], torch.ones(1)).inputs_grad == [None]


def test_results_that_are_tuples_by_another_name_are_tuples(guest: Guest) -> None:
    source = """
    import torch, typing, collections
    class Noised(typing.NamedTuple):
        x_t: torch.Tensor
        noise: torch.Tensor
    class Bunch(dict): pass
    Pair = collections.namedtuple("Pair", "a b")
    def f(x): return Noised(x, x + 1)
    def g(x): return Pair(1, [torch.max(x.reshape(1, -1), 1), x.shape])
    def h(x): return [collections.OrderedDict(a=x), Bunch(b=1), collections.defaultdict(int, c=2)]
    """
    x = torch.ones(2)
    with guests.loaded(guest, source) as session:
        found = session.call("f", x)
        assert type(found) is tuple
        assert torch.equal(found[1], x + 1)
        vjp = session.vjp("f", [x], [x, x])
        assert vjp.inputs_grad[0] is not None
        assert torch.equal(vjp.inputs_grad[0], 2 * x)
        assert session.call("g", x) == (1, [(torch.tensor([1.0]), torch.tensor([0])), (2,)])
        ordered, bunch, default = session.call("h", x)
        assert (list(ordered), bunch, default) == (["a"], {"b": 1}, {"c": 2})


def test_a_lazy_layer_is_called_by_its_name(guest: Guest) -> None:
    source = (
        "import torch\nclass Block(torch.nn.Sequential):\n def __init__(self): super().__init__(torch.nn.LazyLinear(2))"
    )
    with guests.loaded(guest, source) as session:
        handle = session.construct("Block")
        with pytest.raises(
            GuestFault, match=r"has a lazy layer \(`0.weight`\), whose size is only known once it has run"
        ):
            session.parameters(handle)


GENERATORS = """
import itertools, random, numpy as np, torch
torch_own, numpy_own = torch.Generator().manual_seed(7), np.random.default_rng(7)
state, python, bits = np.random.RandomState(7), random.Random(7), np.random.Generator(np.random.PCG64(7))
other = torch.Generator()
class Own(torch.nn.Module):
    generator = torch.Generator()
def torch_of_module(): return torch.randn(4, generator=torch_own)
def two_streams(): return torch.randn(4, generator=torch_own) - torch.randn(4, generator=other)
def numpy_of_module(): return torch.from_numpy(numpy_own.normal(size=4))
def bits_of_module(): return torch.from_numpy(bits.normal(size=4))
def state_of_module(): return torch.from_numpy(state.normal(size=4))
def python_of_module(): return torch.tensor([python.gauss(0, 1) for _ in range(4)])
def of_class(): return torch.randn(4, generator=Own.generator)
def as_default(generator=torch.Generator()): return torch.empty(4).normal_(generator=generator)
def unseeded(): return torch.from_numpy(np.random.default_rng().normal(size=4))
def unseeded_state(): return torch.from_numpy(np.random.RandomState().normal(size=4))
def unseeded_python(): return torch.tensor([random.Random().random()])
def seeded_by_entropy():
    torch.seed()
    return torch.randn(4)
def numpy_by_entropy():
    np.random.seed()
    random.seed()
    return torch.tensor([np.random.rand(), random.random()])
def seed_method():
    torch_own.seed()
    return torch.randn(4, generator=torch_own)
def forked():
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=torch_own)))
        return torch.randn(4)
def of_call(): return torch.randn(4, generator=torch.Generator().manual_seed(0))
def numpy_of_call(): return torch.from_numpy(np.random.default_rng(0).normal(size=4))
def global_of_call():
    torch.manual_seed(0)
    return torch.randn(4)
def reset_in_call(): return torch.randn(4, generator=torch_own.manual_seed(3))
def kinds():
    assert isinstance(torch_own, torch.Generator) and isinstance(numpy_own, np.random.Generator)
    assert isinstance(python, random.Random) and isinstance(state, np.random.RandomState)
    return [str(type(g)) for g in (torch_own, numpy_own, state, python)]
"""


@pytest.mark.parametrize(
    "name",
    [
        "torch_of_module", "two_streams", "numpy_of_module", "bits_of_module", "state_of_module", "python_of_module",
        "of_class", "as_default", "unseeded", "unseeded_state", "unseeded_python", "seeded_by_entropy",
        "numpy_by_entropy", "seed_method", "forked",
    ],
)  # fmt: skip
def test_generators_of_a_program_follow_the_seed(guest: Guest, name: str) -> None:
    drawn = []
    with guests.loaded(guest, GENERATORS) as session:
        for seed in (5, 5, 6):
            session.seed(seed)
            drawn.append(session.call(name))
            again = session.call(name)
            assert not torch.equal(again, drawn[-1])  # without a new seed the stream goes on
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("name", ["of_call", "numpy_of_call", "global_of_call", "reset_in_call"])
def test_a_seed_that_a_function_fixes_stays_fixed(guest: Guest, name: str) -> None:
    with guests.loaded(guest, GENERATORS) as session:
        session.seed(5)
        first = session.call(name)
        session.seed(6)
        assert torch.equal(session.call(name), first)


def test_generators_keep_their_names_and_their_first_seed(guest: Guest) -> None:
    with guests.loaded(guest, GENERATORS) as session:
        assert session.call("kinds") == [
            "<class 'torch._C.Generator'>", "<class 'numpy.random._generator.Generator'>",
            "<class 'numpy.random.mtrand.RandomState'>", "<class 'random.Random'>",
        ]  # fmt: skip
        assert torch.equal(session.call("torch_of_module"), torch.randn(4, generator=torch.Generator().manual_seed(7)))


def test_the_model_has_what_the_judge_says_and_no_device(guest: Guest) -> None:
    source = """
    import torch
    def steps(model): return [model.T, model.training, model.eval().training, len(list(model.parameters()))]
    def where(model): return model.device
    def shown(model, x): return model
    """
    model = Callback(lambda x: x)
    with guests.loaded(guest, source, model=Model(class_name="UNet", attributes={"T": 150})) as session:
        assert session.call("steps", model) == [150, True, False, 1]
        with pytest.raises(GuestFault) as caught:
            session.call("where", model)
        assert (caught.value.message, caught.value.line) == ("'UNet' object has no attribute 'device'", 4)
        with pytest.raises(GuestFault, match="returned a UNet"):
            session.call("shown", model, torch.ones(1))


def test_an_optional_statement_that_raises_is_left_out(guest: Guest) -> None:
    def chunk(line: int, source: str, *, optional: bool = True) -> Chunk:
        return Chunk(file="a.py", line=line, source=source, optional=optional)

    chunks = (
        chunk(1, "x = [1]", optional=False),
        chunk(2, "x.append(2)"),
        chunk(3, "import sys; x.append(3); sys.exit(1)"),
        chunk(6, "def f(): return x", optional=False),
    )
    with guest.session(guests.LONG, seed=1) as session:
        session.load(Program(chunks=chunks))
        assert session.call("f") == [1, 2]
    with guest.session(guests.LONG, seed=1) as session, pytest.raises(GuestFault) as caught:
        session.load(Program(chunks=(*chunks, chunk(7, "x.add(3)", optional=False))))
    # What is required raises as well, so the first of all is the one to tell
    assert (caught.value.ending, caught.value.line) == (Ending.CRASHED, 3)


def test_what_an_optional_statement_did_before_it_raised_is_undone(guest: Guest) -> None:
    source = "x.append(2)\nraise ValueError"
    chunks = [Chunk(file="a.py", line=1, source="x = [1]\nbetas += 1")]
    chunks += [Chunk(file="a.py", line=3, source=source, optional=True)] * 20
    chunks += [Chunk(file="a.py", line=5, source="def f(): return x, betas")]
    program = Program(chunks=tuple(chunks), values={"betas": torch.zeros(2)})
    with guest.session(guests.LONG, seed=1) as session:
        session.load(program)
        x, betas = session.call("f")
        assert x == [1]
        assert torch.equal(betas, torch.ones(2))


def test_a_parser_of_arguments_finds_none(guest: Guest) -> None:
    source = """
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=0.1)
    share = parser.parse_args().share
    """
    with guests.loaded(guest, source) as session:
        assert session.get("share") == 0.1
