from torch import bernoulli, ones_like
from torch.nn.functional import one_hot

import config
from schedule import device


def get_context_mask(c, drop_prob):
    c_hot = one_hot(c.long(), num_classes=config.N_CLASSES).to(device)
    return c_hot, bernoulli(ones_like(c_hot).float() * (1 - drop_prob))
