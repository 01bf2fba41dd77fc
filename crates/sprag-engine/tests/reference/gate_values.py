"""Reference values for the gate, from scipy: the e-value of an audit and its confidence sequence, looks at a
candidate, the smallest gain that is found, the filter over keeps, levels of audits.

Writes gate_values.json beside itself: python3 gate_values.py
"""

import json
import pathlib

import numpy
import scipy
from scipy import optimize, special, stats

EFFECTS = 0.5 * 1.5 ** numpy.arange(21)
WEIGHTS = stats.halfcauchy.pdf(EFFECTS, scale=3) * EFFECTS
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def e_value(differences, squares, freedom, none=0.0):
    """Mixture of likelihood ratios of Student's t (5 df), scale at the upper quartile of sigma."""
    sigma = numpy.sqrt(squares / stats.chi2.ppf(0.25, freedom))
    scale = numpy.sqrt(2) * sigma
    at = numpy.asarray(differences) - none

    def log_likelihood(shift):
        return stats.t.logpdf(at, df=5, loc=shift, scale=scale).sum()

    logs = numpy.array([log_likelihood(effect * sigma) for effect in EFFECTS]) - log_likelihood(0.0)
    return float(numpy.sum(WEIGHTS * numpy.exp(logs)))


def edge(differences, squares, freedom, level, sign):
    """Where the evidence against a value first reaches 1 / level, going away from the mean."""
    turned = [sign * one for one in differences]
    center = float(numpy.mean(turned))
    sigma = numpy.sqrt(squares / freedom)

    def excess(value):
        return numpy.log(e_value(turned, squares, freedom, value)) + numpy.log(level)

    outside = center - sigma
    while excess(outside) < 0:
        outside -= 0.25 * sigma
        if outside < center - 1e4 * sigma:
            return None
    return sign * optimize.brentq(excess, outside, center, xtol=1e-13)


def filtered(line, step, recent):
    """The last state of a Kalman filter over keeps, as the weighted least squares that it solves: one unknown level
    a keep, observed by its recent runs with unit variance, joined by steps of that standard deviation."""
    rows, values, weights = [], [], []
    for keep, runs in enumerate(line):
        for run in runs[-recent:]:
            rows.append(numpy.eye(len(line))[keep])
            values.append(run)
            weights.append(1.0)
        if keep > 0:
            rows.append(numpy.eye(len(line))[keep] - numpy.eye(len(line))[keep - 1])
            values.append(0.0)
            weights.append(1 / step**2)
    design, weight = numpy.array(rows), numpy.diag(weights)
    normal = design.T @ weight @ design
    levels = numpy.linalg.solve(normal, design.T @ weight @ numpy.array(values))
    return float(levels[-1]), float(numpy.linalg.inv(normal)[-1, -1])


def looked(level, variance, squares, freedom, screening, repeats, anchors, alpha):
    """Statistic of all runs, its quantile, and the interval of the repeats alone; lower scores are better."""
    for arm in (repeats, anchors):
        if len(arm) > 1:
            squares += float(numpy.var(arm) * len(arm))
            freedom += len(arm) - 1
    precision = 1 / variance + len(anchors)
    level = (level / variance + float(numpy.sum(anchors))) / precision
    sigma = numpy.sqrt(squares / freedom)
    runs = [screening] + repeats
    all_runs = (level - numpy.mean(runs)) / (sigma * numpy.sqrt(1 / len(runs) + 1 / precision))
    shown = repeats or runs
    error = sigma * numpy.sqrt(1 / len(shown) + 1 / precision)
    gain = level - numpy.mean(shown)
    quantile = stats.t.ppf(1 - alpha, freedom)
    return {
        "statistic": float(all_runs),
        "quantile": float(quantile),
        "effect": [float(one) for one in (gain, gain - quantile * error, gain + quantile * error)],
    }


def detectable(squares, freedom, variance, screen_z, alpha, repeats, power):
    each = stats.t.ppf(numpy.sqrt(power), freedom)
    screened = (screen_z + each) * numpy.sqrt(1 + variance)
    confirmed = (stats.t.ppf(1 - alpha, freedom) + each) * numpy.sqrt(1 / (repeats + 1) + variance)
    return float(numpy.sqrt(squares / freedom) * max(screened, confirmed))


def looks(random):
    cases = []
    for _ in range(24):
        freedom, sigma = int(random.integers(4, 30)), 10.0 ** random.uniform(-3, 0)
        level, variance = random.uniform(1, 3), random.uniform(0.05, 1)
        squares = float(sigma**2 * freedom)
        alpha, screen_z = float(random.choice([0.02, 0.08, 0.15])), float(random.choice([0.4, 0.7]))
        most = int(random.integers(1, 5))
        draw = lambda n, gain: [float(one) for one in level - gain * sigma + sigma * random.standard_normal(n)]
        screening = draw(1, 2.5)[0]
        repeats, anchors = draw(int(random.integers(0, 4)), 1.5), draw(int(random.integers(0, 3)), 0)
        case = {"squares": squares, "freedom": freedom, "level": level, "variance": variance, "alpha": alpha}
        case |= {"screening": screening, "repeats": repeats, "anchors": anchors}
        case |= looked(level, variance, squares, freedom, screening, repeats, anchors, alpha)
        case |= {"screen_z": screen_z, "max_repeats": most}
        case["detectable"] = detectable(squares, freedom, variance, screen_z, alpha, most, 0.8)
        cases.append(case)
    return cases


def levels(random):
    cases = []
    for _ in range(12):
        sizes = [int(random.integers(2, 16))] + [int(random.integers(1, 15)) for _ in range(random.integers(0, 5))]
        line = [[float(one) for one in random.normal(2, 1, size)] for size in sizes]
        mean, variance = filtered(line, step=0.75, recent=12)
        cases.append({"line": line, "mean": mean, "variance": variance})
    return cases


def main():
    random = numpy.random.default_rng(20)
    audits = []
    for case in range(24):
        freedom = int(random.integers(4, 40))
        sigma = 10.0 ** random.uniform(-4, 1)
        squares = float(sigma**2 * freedom * random.uniform(0.5, 1.5))
        pairs = int(random.integers(3, 9))
        differences = sigma * (random.standard_t(4, pairs) * 1.4 + random.uniform(-1, 5))
        ends = [edge(list(differences), squares, freedom, 0.05, sign) for sign in (1, -1)]
        if None in ends:
            continue
        audits.append(
            {
                "squares": squares,
                "freedom": freedom,
                "differences": [float(one) for one in differences],
                "e_value": e_value(differences, squares, freedom),
                "interval_95": ends,
            }
        )
    here = pathlib.Path(__file__).resolve().parent
    gamma = [float(audit**-1.6 / special.zeta(1.6)) for audit in range(1, 41)]
    found = {"scipy": scipy.__version__, "numpy": numpy.__version__, "audits": audits}
    found |= {"looks": looks(random), "levels": levels(random), "gamma": gamma}
    (here / "gate_values.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
