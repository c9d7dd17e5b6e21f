"""The variance schedule, made by a function that fills a dictionary."""

import torch

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
T = 150
betas = torch.linspace(1e-4, 0.053, T).to(device)

table = {}


def extract(values):
    """Not what the other modules call so."""
    return values.float()


def fill(into):
    kept = 1 - betas
    into["alphas"] = kept
    into["cumprod"] = torch.exp(torch.cumsum(torch.log(kept), dim=0))


fill(table)
alphas, alphas_cumprod = extract(table["alphas"]), extract(table["cumprod"])
sqrt_alphas_cumprod = alphas_cumprod.sqrt()
sqrt_one_minus_alphas_cumprod = (1 - alphas_cumprod).sqrt()
sqrt_recip_alphas: torch.Tensor = alphas.pow(-0.5)
pred_noise_coeff: torch.Tensor = betas / sqrt_one_minus_alphas_cumprod
