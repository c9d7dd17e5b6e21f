"""How checks are tried: with stand-ins, then with the student's own definitions, always under the same givens."""

from collections.abc import Iterator

import guests
import pytest
from validity.grader import SOLUTION, Grader

from grading.outcomes import Outcome
from grading.report import BlankReport


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with guests.guest("none") as guest:
        yield Grader(guest)


def changed(*changes: tuple[str, str], append: str = "") -> str:
    """The solution with pieces of its text replaced."""
    source = SOLUTION
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times"
        source = source.replace(old, new)
    return source + append


def not_passed(reports: dict[str, BlankReport]) -> dict[str, BlankReport]:
    return {name: report for name, report in reports.items() if report.status is not Outcome.PASSED}


# Each answer works to its end, and then refuses whatever is not its author's
LEANING = (
    ("def q(", "def mine(thing):\n    return thing.mine\n\n\ndef q("),
    (
        "    return x_t.view(x_0.shape), noise\n",
        "    mine(sqrt_alphas_cumprod)\n    return x_t.view(x_0.shape), noise\n",
    ),
    (
        "\n\n# %% [markdown]\n# ## 2.",
        "\nsqrt_alphas_cumprod.mine = True\nalphas.mine = True\n\n# %% [markdown]\n# ## 2.",
    ),
    ("# ## 3. Reverse diffusion\n", "# ## 3. Reverse diffusion\n\n# %%\nq.mine = True\n"),
    (
        "pred_noise_coeff = betas / torch.sqrt(1.0 - alphas_cumprod)\n",
        "pred_noise_coeff = betas / torch.sqrt(1.0 - alphas_cumprod)\npred_noise_coeff.mine = True\n",
    ),
    (
        "    return mean + torch.sqrt(betas[t]) * torch.randn_like(x_t)\n",
        "    mine(pred_noise_coeff)\n    return mean + torch.sqrt(betas[t]) * torch.randn_like(x_t)\n\n\n"
        "reverse_q.mine = True\n",
    ),
    (
        "    return F.mse_loss(noise_pred, noise)\n",
        "    mine(q)\n    return F.mse_loss(noise_pred, noise)\n",
    ),
    (
        "        x_t = reverse_q(x_t, t, e_t)\n    return x_t\n",
        "        x_t = reverse_q(x_t, t, e_t)\n    mine(reverse_q)\n    return x_t\n",
    ),
)


def test_no_try_sees_what_another_one_or_a_recogniser_has_changed(grader: Grader) -> None:
    reports = grader.check(changed(*LEANING))
    assert {name: report.message for name, report in not_passed(reports).items()} == {}


def test_a_step_with_a_parameter_of_its_authors_fits_its_authors_loop(grader: Grader) -> None:
    reports = grader.check(
        changed(
            ("def reverse_q(x_t, t, e_t):", "def reverse_q(x_t, t, e_t, noise=None):"),
            (
                "    return mean + torch.sqrt(betas[t]) * torch.randn_like(x_t)\n",
                "    noise = torch.randn_like(x_t) if noise is None else noise\n"
                "    return mean + torch.sqrt(betas[t]) * noise\n",
            ),
            ("x_t = reverse_q(x_t, t, e_t)", "x_t = reverse_q(x_t, t, e_t, noise=torch.randn_like(x_t))"),
        )
    )
    assert not_passed(reports) == {}


@pytest.mark.parametrize(
    ("change", "blank", "words"),
    [
        (
            ("        e_t_drop = e_t[n_samples:]\n", "        e_t_drop = e_t[n_sampels:]\n"),
            "sample_w",
            "raised NameError: name 'n_sampels' is not defined (answers.py, line ",
        ),
        (
            ("        e_t_drop = e_t[n_samples:]\n", "        e_t_drop, other = []\n"),
            "sample_w",
            "raised ValueError: not enough values to unpack (expected 2, got 0) (answers.py, line ",
        ),
        (
            ("    t = t.long().view(-1)[0]\n", "    t = t.long().view(-1)[0] + 'a'\n"),
            "reverse_q",
            "raised TypeError: ",
        ),
        (
            ("    mean_coeff = sqrt_alphas_cumprod[t]", "    mean_coeff = sqrt_alphas_comprod[t]"),
            "q",
            "raised NameError: name 'sqrt_alphas_comprod' is not defined (answers.py, line ",
        ),
    ],
)
def test_an_exception_is_told_as_such(grader: Grader, change: tuple[str, str], blank: str, words: str) -> None:
    reports = not_passed(grader.check(changed(change)))
    assert list(reports) == [blank]
    assert words in reports[blank].message
    assert reports[blank].status is Outcome.CRASHED
    assert reports[blank].misconception is None


def test_advice_stands_behind_the_error_that_it_explains(grader: Grader) -> None:
    reports = not_passed(grader.check(changed(("from einops.layers.torch import Rearrange\n", ""))))
    assert list(reports) == ["RearrangePoolBlock"]
    message = reports["RearrangePoolBlock"].message
    assert "NameError: name 'Rearrange' is not defined" in message
    assert message.endswith("but never imported: add `from einops.layers.torch import Rearrange`.")
    assert message.count("never imported") == 1


def test_advice_stands_behind_an_error_that_it_does_not_explain(grader: Grader) -> None:
    reports = not_passed(
        grader.check(
            changed(
                ("from einops.layers.torch import Rearrange\n", ""),
                (
                    '        self.rearrange = Rearrange("b',
                    '        assert in_chs < 0\n        self.rearrange = Rearrange("b',
                ),
            )
        )
    )
    message = reports["RearrangePoolBlock"].message
    assert "AssertionError" in message
    assert message.index("AssertionError") < message.index("never imported")


@pytest.mark.parametrize(
    ("code", "blank", "name"),
    [
        ("pred_noise_coeff = betas.div_(torch.sqrt(1.0 - alphas_cumprod))\n", "pred_noise_coeff", "betas"),
        (
            "pred_noise_coeff = betas\npred_noise_coeff /= torch.sqrt(1.0 - alphas_cumprod)\n",
            "pred_noise_coeff",
            "betas",
        ),
    ],
)
def test_who_changes_what_others_need_fails(grader: Grader, code: str, blank: str, name: str) -> None:
    right = "pred_noise_coeff = betas / torch.sqrt(1.0 - alphas_cumprod)\n"
    reports = not_passed(grader.check(changed((right, code))))
    assert list(reports) == [blank]
    assert reports[blank].message == f"A value that other parts still need is changed in place: `{name}`."
    misconception = reports[blank].misconception
    assert misconception is not None
    assert misconception.id == "changed-value"


def test_a_function_that_changes_a_coefficient_fails(grader: Grader) -> None:
    reports = not_passed(
        grader.check(changed(("    t = t.long()\n    noise", "    betas.mul_(1.001)\n    t = t.long()\n    noise")))
    )
    assert list(reports) == ["q"]
    assert "changed in place: `betas`" in reports["q"].message


def test_a_copy_may_be_changed(grader: Grader) -> None:
    reports = grader.check(
        changed(
            (
                "sqrt_alphas_cumprod = torch.sqrt(alphas_cumprod)\n",
                "sqrt_alphas_cumprod = alphas_cumprod.clone()\nsqrt_alphas_cumprod.sqrt_()\n",
            )
        )
    )
    assert not_passed(reports) == {}


def test_what_only_fits_a_wrong_answer_is_not_checked(grader: Grader) -> None:
    reports = not_passed(
        grader.check(
            changed(
                (
                    "    def __init__(self, in_ch, out_ch, group_size):\n",
                    "    def __init__(self, in_ch, out_ch, group_size, act=None):\n",
                ),
                ("            nn.Conv2d(in_ch, out_ch, 3, 1, 1),\n", "            nn.Conv2d(in_ch, out_ch, 3, 1),\n"),
                (
                    "GELUConvBlock(4 * in_chs, in_chs, group_size)",
                    "GELUConvBlock(4 * in_chs, in_chs, group_size, act=nn.GELU)",
                ),
            )
        )
    )
    assert list(reports) == ["GELUConvBlock", "RearrangePoolBlock"]
    pool = reports["RearrangePoolBlock"]
    assert pool.status is Outcome.SKIPPED
    assert pool.points == 0
    assert pool.message.startswith("It builds on `GELUConvBlock`, which is not right yet")


def test_who_calls_a_wrong_answer_wrongly_is_blamed(grader: Grader) -> None:
    wrong_block = ("            nn.Conv2d(in_ch, out_ch, 3, 1, 1),\n", "            nn.Conv2d(in_ch, out_ch, 3, 1),\n")
    wrong_call = ("GELUConvBlock(4 * in_chs, in_chs, group_size)", "GELUConvBlock(4 * in_chs, in_chs)")
    only = frozenset({"RearrangePoolBlock"})
    for reports in (grader.check(changed(wrong_block, wrong_call)), grader.check(changed(wrong_call), only)):
        pool = reports["RearrangePoolBlock"]
        assert pool.status is Outcome.CRASHED
        assert "missing 1 required positional argument" in pool.message


CIRCLE = (
    ("alphas = 1.0 - betas\n", "alphas = 1.0 / sqrt_recip_alphas**2\n"),
    ("alphas_cumprod = torch.cumprod(alphas, dim=0)\nsqrt", "alphas_cumprod = sqrt_alphas_cumprod**2\nsqrt"),
)


def test_answers_that_are_defined_by_each_other_are_wrong(grader: Grader) -> None:
    reports = not_passed(grader.check(changed(*CIRCLE)))
    assert {"alphas", "sqrt_recip_alphas", "alphas_cumprod", "sqrt_alphas_cumprod"} == set(reports)
    assert reports["alphas"].message == (
        "These are defined by each other in a circle, so none of them can ever be computed: `alphas`, "
        "`sqrt_recip_alphas`."
    )


def test_functions_that_call_each_other_without_end_are_wrong(grader: Grader) -> None:
    source = changed(
        ("    x_t, noise = q(x_0, t)\n    noise_pred", "    x_t, noise = q(x_0, t, model)\n    noise_pred"),
        ("def q(x_0, t):", "def q(x_0, t, model=None):"),
        (
            "    t = t.long()\n    noise = torch.randn_like(x_0)\n",
            "    t = t.long()\n    noise = torch.randn_like(x_0)\n    get_loss(lambda *_: x_0, x_0, t)\n",
        ),
    )
    assert "q" in not_passed(grader.check(source))


def test_methods_of_one_class_that_use_each_others_results_are_no_circle(grader: Grader) -> None:
    source = changed(
        (
            "alphas = 1.0 - betas\nalphas_cumprod = torch.cumprod(alphas, dim=0)\n",
            "class Schedule:\n    def one(self):\n        return 1.0 - betas\n\n"
            "    def product(self):\n        return torch.cumprod(alphas, dim=0)\n\n"
            "    def check(self):\n        return alphas_cumprod\n\n\n"
            "schedule = Schedule()\nalphas = schedule.one()\nalphas_cumprod = schedule.product()\n",
        )
    )
    assert not_passed(grader.check(source)) == {}
