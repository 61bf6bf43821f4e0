"""300 pictures in five classes: discs, squares, rings, bars and crosses of any place, size and colour on noise."""
import numpy as np


def shapes(side):
    """uint8 [300, 3, side, side] and labels 0 to 4."""
    random, s = np.random.default_rng(0), side / 64
    v, u = np.mgrid[:side, :side]
    x, y = [], []
    for i in range(300):
        a, b, r = random.uniform(18 * s, 46 * s), random.uniform(18 * s, 46 * s), random.uniform(8 * s, 17 * s)
        far, high, wide = np.hypot(u - a, v - b), np.abs(v - b), np.abs(u - a)
        mask = [far < r, np.maximum(high, wide) < r, (far < r) & (far > .6 * r), (high < .3 * r) & (wide < 1.4 * r),
                ((high < .3 * r) | (wide < .3 * r)) & (far < 1.2 * r)][i % 5]
        noise = random.uniform(0, 90, (3, side, side))
        x.append(np.where(mask, random.uniform(120, 255, (3, 1, 1)), noise).astype(np.uint8))
        y.append(i % 5)
    return np.stack(x), np.array(y)
