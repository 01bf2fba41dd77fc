"""Fixed: examples of two overlapping classes, drawn from a seed.

The border between them is a circle that is not centred, and one in ten labels is wrong, so that nobody reaches zero.
"""

import random

TEST = 2000


def stream(seed, part):
    """Endless pairs of a point and its label, 0 or 1; `part` keeps training and test apart."""
    draw = random.Random(f"{seed} {part}")
    while True:
        point = (draw.uniform(-1, 1), draw.uniform(-1, 1))
        inside = (point[0] - 0.2) ** 2 + (point[1] + 0.1) ** 2 < 0.45
        yield point, int(inside != (draw.random() < 0.1))


def test_set(seed):
    """The points and the labels that scores are about."""
    pairs = stream(seed, "test")
    drawn = [next(pairs) for _ in range(TEST)]
    return [point for point, _ in drawn], [label for _, label in drawn]
