"""Reference values for the gate, from scipy: the e-value of an audit and its confidence sequence.

Writes gate_values.json beside itself: python3 gate_values.py
"""

import json
import pathlib

import numpy
import scipy
from scipy import optimize, stats

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
    found = {"scipy": scipy.__version__, "numpy": numpy.__version__, "audits": audits}
    (here / "gate_values.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
