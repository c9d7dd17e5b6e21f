"""What a student reads about a wrong answer is true, and says what was expected wherever it says what was found."""

from collections.abc import Iterator

import guests
import pytest
from validity import corpus
from validity.grader import PACK, SOLUTION, Grader

from grading.report import BlankReport

GROUPS = 4  # hand-ins of each file with a wrong answer in nearly every blank; the whole corpus takes minutes


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with guests.guest("none") as guest:
        yield Grader(guest)


def report(grader: Grader, blank: str, code: str) -> BlankReport:
    return grader.check(corpus.replace_definition(SOLUTION, PACK.blank(blank), code), frozenset({blank}))[blank]


def q(noise: str) -> str:
    return f"""def q(x_0, t):
    t = t.long()
    noise = {noise}
    x_t = sqrt_alphas_cumprod[t].view(-1, 1, 1, 1) * x_0 + sqrt_one_minus_alphas_cumprod[t].view(-1, 1, 1, 1) * noise
    return x_t.view(x_0.shape), noise
"""


@pytest.mark.parametrize(
    ("noise", "misconception"),
    [
        ("torch.randn_like(x_0[0])", "one-draw-for-the-batch"),
        ("torch.randn_like(x_0[:1])", "one-draw-for-the-batch"),
        ("torch.randn_like(x_0[..., :1, :1])", "noise-shared-within-image"),
        ("torch.randn_like(x_0[..., :1, :1]).expand(x_0.shape)", "noise-shared-within-image"),
        ("torch.randn_like(x_0[..., :1])", "noise-shared-within-image"),
    ],
)
def test_noise_that_is_shared_is_told_from_noise_that_is_not_the_one_used(
    noise: str, misconception: str, grader: Grader
) -> None:
    found = report(grader, "q", q(noise))
    assert found.misconception is not None
    assert found.misconception.id == misconception


@pytest.mark.parametrize(
    ("image", "noise", "message"),
    [
        ("alphas[t]", "sqrt_one_minus_alphas_cumprod[t]", "The share of the image in `x_t` is not what it should be"),
        ("sqrt_alphas_cumprod[t]", "alphas[t]", "The share of the noise in `x_t` is not what it should be"),
    ],
)
def test_which_share_of_a_noisy_image_is_wrong_is_said(image: str, noise: str, message: str, grader: Grader) -> None:
    code = f"""def q(x_0, t):
    t = t.long()
    noise = torch.randn_like(x_0)
    return ({image}.view(-1, 1, 1, 1) * x_0 + {noise}.view(-1, 1, 1, 1) * noise).view(x_0.shape), noise
"""
    found = report(grader, "q", code)
    assert (found.misconception, found.message.startswith(message)) == (None, True)


def test_noise_that_is_in_the_image_is_not_called_other_noise(grader: Grader) -> None:
    code = """def q(x_0, t):
    t = t.long()
    noise = torch.randn_like(x_0)
    mean, std = sqrt_alphas_cumprod[t].view(-1, 1, 1, 1), sqrt_one_minus_alphas_cumprod[t].view(-1, 1, 1, 1)
    return (mean * x_0**2 + std * noise).view(x_0.shape), noise
"""
    found = report(grader, "q", code)
    assert (found.misconception, found.message) == (
        None,
        "`x_t` is not made of `x_0` and the noise that `q` returns.",
    )


@pytest.mark.parametrize(
    ("code", "blank"),
    [
        ("alphas = 1 - torch.linspace(1e-4, 0.053, T)\n", "alphas"),  # of the right length, with betas of its own
        ("alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100), 0)\n", "alphas_cumprod"),
    ],
)
def test_betas_that_are_not_used_are_named(code: str, blank: str, grader: Grader) -> None:
    found = report(grader, blank, code)
    assert found.misconception is not None
    assert found.misconception.id == "hard-coded-schedule"
    assert "does not change with `betas`" in found.message


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        ("2.0", "Too much noise is added at t = 1"),
        ("0.1", "Too little noise is added at t = 1"),
        ("1.03", "Too much noise is added"),
        ("0.97", "Too little noise is added"),
    ],
)
def test_too_much_noise_is_told_from_too_little(factor: str, message: str, grader: Grader) -> None:
    code = f"""def reverse_q(x_t, t, e_t):
    t = t.long().view(-1)[0]
    mean = sqrt_recip_alphas[t] * (x_t - pred_noise_coeff[t] * e_t)
    return mean if t == 0 else mean + {factor} * betas[t].sqrt() * torch.randn_like(x_t)
"""
    (noise,) = [check for check in report(grader, "reverse_q", code).checks if check.name == "noise"]
    assert noise.message.startswith(message)


def test_where_a_bound_shows_is_said(grader: Grader) -> None:
    code = "sqrt_one_minus_alphas_cumprod = (1 - alphas_cumprod).clamp(min=1e-3).sqrt()\n"
    message = report(grader, "sqrt_one_minus_alphas_cumprod", code).message
    assert "on it is right; before, where the betas are small, it is not." in message


def test_what_to_do_about_double_precision_is_said(grader: Grader) -> None:
    found = report(grader, "alphas", "alphas = 1 - betas.double()\n")
    assert found.misconception is not None
    assert "`.float()`" in found.misconception.why


@pytest.mark.parametrize(
    ("silent", "message"),
    [
        ("t <= 1", "The noise ends one step too early: at t = 1 there is none."),
        ("t == 0 or t == 2", "No noise is added at t = 2."),
        ("t <= 2", "No noise is added at t = 1 and 2."),
        ("t >= 0", "No noise is added after the step."),
    ],
)
def test_the_steps_without_noise_are_named(silent: str, message: str, grader: Grader) -> None:
    code = f"""def reverse_q(x_t, t, e_t):
    t = t.long().view(-1)[0]
    mean = sqrt_recip_alphas[t] * (x_t - pred_noise_coeff[t] * e_t)
    posterior = (1 - alphas_cumprod[t - 1]) / (1 - alphas_cumprod[t]) * betas[t]
    return mean if {silent} else mean + posterior.sqrt() * torch.randn_like(x_t)
"""
    (noise,) = [check for check in report(grader, "reverse_q", code).checks if check.name == "noise"]
    assert noise.message == message


def test_the_same_mistake_in_two_slots_is_told_once(grader: Grader) -> None:
    source = SOLUTION.replace("self.down1 = DownBlock(", "self.down1 = UpBlock(")
    source = source.replace("self.down2 = DownBlock(", "self.down2 = UpBlock(")
    found = grader.check(source, frozenset({"UNet"}))["UNet"]
    assert found.message.count("On the way down") == 1
    assert "`down1` and `down2`" in found.message


def test_what_was_found_never_stands_alone(grader: Grader) -> None:
    alone = []
    for name in ("wrong.md", "wrong-blind.md"):
        for group in corpus.hand_ins(corpus.read(name))[:GROUPS]:
            reports = [grader.report(variant, tuple(group)) for variant in group]
            checks = [(report.id, check) for report in reports for check in report.checks]
            lonely = [(blank, check) for blank, check in checks if check.found and not check.expected]
            alone += [f"{blank}/{check.name}: {check.found}" for blank, check in lonely]
    assert alone == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "self.up1 = UpBlock(up_chs[0], ",
            "self.up1 = UpBlock(2 * up_chs[0], ",
            "`up1` gets 48 channels and expects 96.",
        ),
        (
            "self.c_emb2 = EmbedBlock(c_embed_dim, ",
            "self.c_emb2 = EmbedBlock(c_embed_dim + 1, ",
            "36 numbers cannot be arranged as [-1, 7].",
        ),
        ("c = c * c_mask\n", "c = torch.where(c_mask > 0, c, 0)\n", "`c_emb1` gets integers and computes in float32."),
        ("torch.cat((up2, down0), dim=1)", "torch.cat((up2, down1), dim=1)", "sizes differ: 8 and 4."),
    ],
)
def test_parts_of_the_unet_that_do_not_fit_are_named(old: str, new: str, words: str, grader: Grader) -> None:
    assert SOLUTION.count(old) == 1
    message = grader.check(SOLUTION.replace(old, new), frozenset({"UNet"}))["UNet"].message
    assert words in message
    assert "(answers.py, line " in message


def test_a_weight_that_counts_by_its_size_is_not_called_by_the_name_of_another_mistake(grader: Grader) -> None:
    source = SOLUTION.replace("(1 + w) * e_t_keep - w * e_t_drop", "(1 + abs(w)) * e_t_keep - abs(w) * e_t_drop")
    found = grader.check(source, frozenset({"sample_w"}))["sample_w"]
    assert found.misconception is None
    assert "it is right." in found.message
