import torch
from config import *
from context import get_context_mask
from diffusion import get_loss, sample_w
from schedule import T, device
from unet import UNet


def main():
    model = UNet(T, IMG_CH, IMG_SIZE).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, c in torch.load("batches.pt"):
        t = torch.randint(0, T, (len(x),), device=device)
        loss = get_loss(model, x, t, *get_context_mask(c, c_drop_prob))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(sample_w(model, torch.eye(N_CLASSES), w))


if __name__ == "__main__":
    main()
