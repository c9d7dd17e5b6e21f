"""What a guest runs to train and to use a student's pipeline: loaded after the student's code, into the same names.

It calls `UNet`, `get_context_mask`, `c_drop_prob` and `get_loss` as the student wrote them. Everything of its own
begins with `noisemark_`, so that it hides nothing of the student's. Nothing that it returns is trusted.

    noisemark_build(config)           the network
    noisemark_manifest()              names and shapes of its parameters and buffers
    noisemark_train(images, labels)   some batches of training
    noisemark_weights(average)        parameters and buffers, by name
    noisemark_set_weights(tensors)
    noisemark_predict(x, t, c, mask)  the noise in x
    noisemark_sample(c, w)            the student's own sampling loop, on this network
    noisemark_gradients()             norm of the latest gradient of each parameter, by name
    noisemark_peak_memory()           bytes
"""

import ctypes
import inspect
import math
import resource

import torch
from torch.optim.adamw import adamw as noisemark_adamw

NOISEMARK_FIRST = ("T", "img_ch", "img_size")  # what every U-Net of the course begins with, whatever it calls them
NOISEMARK_CLASSES = 10  # digits: how long a context is
# Arguments of the course's U-Net that no recipe sets, for a class that gives them no default of its own.
NOISEMARK_UNET_DEFAULTS = {"t_embed_dim": 8, "small_group_size": 8, "big_group_size": 8}
NOISEMARK_GROUPS = 32  # the larger number of groups in the course's U-Net
NOISEMARK_BETAS = (0.9, 0.99)  # AdamW's; 0.99 forgets the large gradients of the start faster than 0.999
NOISEMARK_WEIGHT_DECAY = 1e-3  # next to none: so short a training does not overfit
NOISEMARK_EPS = 1e-8  # AdamW's usual one
NOISEMARK_GRADIENT_NORM = 1.0  # gradients are scaled down to it: a high learning rate needs a guard
NOISEMARK_FINAL_RATE = 0.02  # share of the learning rate that the cosine ends at
NOISEMARK_EMA_SHARE = 0.1  # largest half-life of the moving average, as a share of the images seen so far

noisemark_state = {}


class NoisemarkError(Exception):
    """The pipeline cannot be run. The message is for the student."""


def noisemark_build(config):
    """Construct the student's `UNet` as the recipe has it, and what training needs."""
    noisemark_tune_memory()
    noisemark_adapt_group_norm()
    device = torch.device(config["device"])
    wanted = {name: config[name] for name in (*NOISEMARK_FIRST, "down_chs")}
    wanted["down_chs"] = tuple(wanted["down_chs"])
    wanted["c_embed_dim"] = NOISEMARK_CLASSES
    model = noisemark_construct(wanted)
    if not isinstance(model, torch.nn.Module):
        raise NoisemarkError(f"UNet is not an nn.Module but {type(model).__name__}")
    model.to(device)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise NoisemarkError("UNet has no parameters that could be trained")
    noisemark_state.update(
        model=model,
        config=config,
        device=device,
        parameters=parameters,
        average=[parameter.detach().clone() for parameter in parameters],
        moments=[torch.zeros_like(parameter) for parameter in parameters],
        squares=[torch.zeros_like(parameter) for parameter in parameters],
        steps=[torch.zeros((), device=device) for _ in parameters],
        images_seen=0,
        gradient_norms={},
    )


def noisemark_construct(wanted):
    """The student's `UNet`, as narrow as the recipe has it, or wider where it refuses that.

    The course's own U-Net has 32 groups written into it. A class that looks whether they divide its channels is right
    to refuse the narrow ones of a recipe for two cores, so it gets multiples of 32.
    """

    def construct(down_chs):
        positional, keywords = noisemark_arguments(UNet, {**wanted, "down_chs": down_chs})  # noqa: F821  (the student's)
        return UNet(*positional, **keywords)  # noqa: F821

    wide = tuple(NOISEMARK_GROUPS * math.ceil(channels / NOISEMARK_GROUPS) for channels in wanted["down_chs"])
    try:
        return construct(wanted["down_chs"])
    except Exception:
        if wide == wanted["down_chs"]:
            raise
        try:
            return construct(wide)
        except Exception:  # noqa: S110  (the widths are not what it refuses: the first error is the one to tell)
            pass
        raise


def noisemark_arguments(network, wanted):
    """The positional and keyword arguments that `network` is constructed with: as the checks construct it.

    The first three by name where it has parameters of these names, else by position: their names are the student's
    business. The rest as far as it has parameters for it, and what else it asks for where the assignment knows it.
    """
    parameters = list(inspect.signature(network).parameters.values())
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = [
        parameter for parameter in parameters if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    by_name = {parameter.name for parameter in named if parameter.kind is not parameter.POSITIONAL_ONLY}
    positional = [] if by_name.issuperset(NOISEMARK_FIRST) else [wanted[name] for name in NOISEMARK_FIRST]
    named = named[len(positional) :]
    rest = {parameter.name for parameter in named}
    if takes_any:
        rest |= {"down_chs"} if positional else {*NOISEMARK_FIRST, "down_chs"}
    keywords = {name: value for name, value in wanted.items() if name in rest}
    for parameter in named:
        if parameter.name in keywords or parameter.default is not parameter.empty:
            continue
        if parameter.name not in NOISEMARK_UNET_DEFAULTS or parameter.kind is parameter.POSITIONAL_ONLY:
            known = ", ".join([*wanted, *NOISEMARK_UNET_DEFAULTS])
            raise NoisemarkError(
                f"UNet asks for {parameter.name!r}, which the assignment does not have. It may ask for {known}; "
                "everything else needs a default"
            )
        keywords[parameter.name] = NOISEMARK_UNET_DEFAULTS[parameter.name]
    return positional, keywords


def noisemark_train(images, labels):
    """Train on images [N, C, H, W] in [-1, 1] and labels [N], batch by batch; the last one may be smaller.

    Returns the mean loss, or None where it stopped being a number.
    """
    state, config = noisemark_state, noisemark_state["config"]
    model = state["model"]
    model.train()
    total = 0.0
    for x_0, c in zip(images.split(config["batch_size"]), labels.split(config["batch_size"]), strict=True):
        x_0, c = x_0.to(state["device"]), c.to(state["device"])
        # Stratified: each batch meets every part of the schedule, which takes noise out of the loss
        strata = torch.randperm(len(c), device=state["device"])
        u = (strata + torch.rand(len(c), device=state["device"])) / len(c)
        # As the course's loop has them and as the checks hand them over: steps as floats, the share as a plain number
        t = (u * config["T"]).floor().clamp_(max=config["T"] - 1)
        c_hot, c_mask = get_context_mask(c, float(c_drop_prob))  # noqa: F821  (the student's)
        loss = get_loss(model, x_0, t, c_hot, c_mask)  # noqa: F821  (the student's)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            found = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise NoisemarkError(f"get_loss returned {found}; a tensor with one number is needed to train with")
        if not loss.requires_grad:
            raise NoisemarkError("get_loss returned a loss that does not depend on the network's parameters")
        for parameter in state["parameters"]:
            parameter.grad = None
        loss.backward()
        value = float(loss.detach())
        if not math.isfinite(value):
            return None
        total += value * len(c)
        noisemark_step(len(c))
    return total / len(images)


@torch.no_grad()
def noisemark_step(batch_size):
    """One step of AdamW on gradients of bounded norm, then the moving average of the parameters."""
    state, config = noisemark_state, noisemark_state["config"]
    chosen = [index for index, parameter in enumerate(state["parameters"]) if parameter.grad is not None]
    parameters = [state["parameters"][index] for index in chosen]
    gradients = [parameter.grad for parameter in parameters]
    norms = torch._foreach_norm(gradients)
    norm = torch.linalg.vector_norm(torch.stack(norms))
    state["gradient_norms"] = dict(zip(chosen, norms, strict=True))
    torch._foreach_mul_(gradients, (NOISEMARK_GRADIENT_NORM / (norm + NOISEMARK_EPS)).clamp(max=1.0))
    state["images_seen"] += batch_size
    # The functional form: constructing torch.optim.AdamW imports torch's compiler, two seconds of every grading
    noisemark_adamw(
        parameters,
        gradients,
        [state["moments"][index] for index in chosen],
        [state["squares"][index] for index in chosen],
        [],
        [state["steps"][index] for index in chosen],
        fused=True,
        amsgrad=False,
        maximize=False,
        beta1=NOISEMARK_BETAS[0],
        beta2=NOISEMARK_BETAS[1],
        lr=noisemark_learning_rate(state["images_seen"]),
        weight_decay=NOISEMARK_WEIGHT_DECAY,
        eps=NOISEMARK_EPS,
    )
    # The half-life grows with the images seen, so that the average forgets the random start (EDM2, Karras et al. 2024)
    half_life = min(config["ema_half_life_images"], state["images_seen"] * NOISEMARK_EMA_SHARE)
    torch._foreach_lerp_(state["average"], state["parameters"], 1 - 0.5 ** (batch_size / half_life))


def noisemark_gradients():
    """Norm of the gradient of each parameter in the latest batch, before it was scaled; 0 where there was none."""
    state = noisemark_state
    places = {id(parameter): index for index, parameter in enumerate(state["parameters"])}
    return {
        name: float(state["gradient_norms"].get(places[id(parameter)], 0.0))
        for name, parameter in state["model"].named_parameters()
        if id(parameter) in places
    }


def noisemark_peak_memory():
    """Most memory that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB


def noisemark_learning_rate(images_seen):
    """Linear warm-up, then a cosine down to a small share."""
    config = noisemark_state["config"]
    if images_seen < config["warmup_images"]:
        return config["learning_rate"] * images_seen / config["warmup_images"]
    progress = (images_seen - config["warmup_images"]) / max(1, config["images"] - config["warmup_images"])
    share = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return config["learning_rate"] * (NOISEMARK_FINAL_RATE + (1 - NOISEMARK_FINAL_RATE) * share)


def noisemark_weights(average):
    """Parameters and buffers by name; with `average`, the moving average of the parameters."""
    state = noisemark_state
    tensors = dict(state["model"].state_dict(keep_vars=True))
    if average:
        places = {id(parameter): mean for parameter, mean in zip(state["parameters"], state["average"], strict=True)}
        tensors = {name: places.get(id(tensor), tensor) for name, tensor in tensors.items()}
    return {name: tensor.detach().cpu() for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}


def noisemark_manifest():
    """Names and shapes of what `noisemark_weights` returns."""
    return {name: list(tensor.shape) for name, tensor in noisemark_weights(False).items()}


def noisemark_set_weights(tensors):
    """Give the network these parameters and buffers."""
    noisemark_state["model"].load_state_dict(tensors)


@torch.no_grad()
def noisemark_predict(x, t, c, mask):
    """The noise that the network sees in x [B, C, H, W] at t [B], with one-hot context c and mask, [B, classes]."""
    device = noisemark_state["device"]
    model = noisemark_state["model"]
    model.eval()
    return model(x.to(device), t.to(device), c.to(device), mask.to(device)).cpu()


@torch.no_grad()
def noisemark_predict_average(x, t, c, mask):
    """`noisemark_predict` by the moving average of the parameters, in the middle of training."""
    state = noisemark_state
    trained = [parameter.detach().clone() for parameter in state["parameters"]]
    torch._foreach_copy_(state["parameters"], state["average"])
    try:
        return noisemark_predict(x, t, c, mask)
    finally:
        torch._foreach_copy_(state["parameters"], trained)


@torch.no_grad()
def noisemark_sample(c, w):
    """What the student's `sample_w` makes of the network: an image for each row of one-hot context c [N, classes]."""
    model = noisemark_state["model"]
    model.eval()
    return sample_w(model, c.to(noisemark_state["device"]), w)  # noqa: F821  (the student's)


def noisemark_adapt_group_norm():
    """Let group normalisation take fewer groups where the number asked for does not divide the channels.

    The course's own U-Net has 32 groups written into it, which its width of 64 channels bears and the narrower ones
    of a recipe for two cores do not. The greatest common divisor is the largest number of groups that fits.
    """
    original = torch.nn.GroupNorm.__init__

    def adapted(self, num_groups, num_channels, *arguments, **keywords):
        original(self, math.gcd(num_groups, num_channels), num_channels, *arguments, **keywords)

    torch.nn.GroupNorm.__init__ = adapted

    function = torch.nn.functional.group_norm

    def adapted_function(input, num_groups, *arguments, **keywords):  # noqa: A002  (torch's name for it)
        return function(input, math.gcd(num_groups, input.shape[1]), *arguments, **keywords)

    torch.nn.functional.group_norm = adapted_function


def noisemark_tune_memory():
    """Keep freed memory in the process (glibc): activations of a few MB are otherwise mapped anew in each step.

    Worth a fifth of the time on two cores. Elsewhere than on glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD: the largest value that glibc takes
        mallopt(-1, 2**30)  # M_TRIM_THRESHOLD: more than training ever has free at once
