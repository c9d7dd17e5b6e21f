IMG_CH = 1
IMG_SIZE = 16
N_CLASSES = 10
c_drop_prob = 0.15
w: float = 2.0
