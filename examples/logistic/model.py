"""The file to improve: logistic regression, trained by stochastic gradient descent, one example at a time."""

import math

# --- optimiser ---
# Step size of the first update.
# knob: log 0.001..10
STEP = 0.3
# Updates after which the step size has halved.
# knob: log 100..100000
HALVING = 2000


def features(point):
    """What the model sees of a point."""
    x, y = point
    return [1.0, x, y]


def probability(weights, point):
    """How likely the label 1 is."""
    total = sum(weight * feature for weight, feature in zip(weights, features(point)))
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, total))))


def fit(examples):
    """Weights after one pass over the examples, which end when the budget is spent."""
    weights = [0.0] * len(features((0.0, 0.0)))
    for update, (point, label) in enumerate(examples):
        step = STEP * 0.5 ** (update / HALVING)
        error = label - probability(weights, point)
        for index, feature in enumerate(features(point)):
            weights[index] += step * error * feature
    return weights
