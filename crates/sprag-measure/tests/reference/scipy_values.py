"""Prints reference values for `sprag_measure::stats` as JSON, computed by scipy and statsmodels.

    pip install scipy statsmodels pymannkendall    # in an environment of its own
    python3 scipy_values.py > scipy_values.json

`tests/reference.rs` compares the stored JSON with our own code; Python is not needed for that.
Inputs are written with the results, so that both sides use the same bits.
"""

import json
import math
import random

import numpy
import pymannkendall
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

DEGREES = list(range(1, 16)) + [20, 25, 30, 40, 50, 75, 100, 120, 150, 200]
TAILS = [1e-12, 1e-9, 1e-6, 1e-4, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3]
PROBABILITIES = TAILS + [0.4, 0.49, 0.5, 0.51, 0.6] + [1 - p for p in reversed(TAILS)]


def numbers(values):
    return [float(value) for value in values]


def student():
    cdf, quantile, ln_pdf = [], [], []
    for df in DEGREES + [0.5, 2.5, 1000.0, 1e6]:
        for t in [-40.0, -12.0, -6.0, -2.5, -1.0, -0.1, -1e-6, 0.0, 0.5, 1.0, 1.96, 3.0, 9.0]:
            cdf.append(numbers([t, df, stats.t.cdf(t, df)]))
            ln_pdf.append(numbers([t, df, stats.t.logpdf(t, df)]))
        # scipy inverts far tails to few digits below one degree of freedom.
        for p in PROBABILITIES if df >= 1 else []:
            quantile.append(numbers([p, df, stats.t.ppf(p, df)]))
    for df in [1.0, 3.0, 30.0]:
        ln_pdf.append(numbers([1e8, df, stats.t.logpdf(1e8, df)]))
    return {"cdf": cdf, "quantile": quantile, "ln_pdf": ln_pdf}


def chi_squared():
    cdf, quantile = [], []
    for df in list(range(1, 201)) + [0.5, 2.5, 1000.0, 1e5]:
        for relative in [0.3, 0.9, 1.0, 1.5, 4.0]:
            x = relative * df
            if (value := stats.chi2.cdf(x, df)) > 1e-290:
                cdf.append(numbers([x, df, value]))
        for p in [1e-12, 0.005, 0.025, 0.5, 0.975, 0.995, 1 - 1e-9]:
            quantile.append(numbers([p, df, stats.chi2.ppf(p, df)]))
    return {"cdf": cdf, "quantile": quantile}


def normal():
    values = [-37.0, -20.0, -8.0, -3.0, -1.0, -0.01, 0.0, 0.5, 1.0, 2.0, 2.9999, 3.0001, 6.0]
    return {
        "cdf": [numbers([z, stats.norm.cdf(z)]) for z in values],
        "quantile": [numbers([p, stats.norm.ppf(p)]) for p in PROBABILITIES],
    }


def series(source, n, drift, step):
    """Irregular times in hours; a step above zero rounds the values, which makes ties."""
    points, hours = [], 0.0
    for _ in range(n):
        hours += source.choice([0.05, 0.1, 0.1, 0.7])
        value = 0.98 + drift * hours + source.gauss(0.0, 0.0004)
        points.append([hours, round(value / step) * step if step else value])
    return points


def trends(source):
    cases = []
    for n in [3, 4, 5, 8, 10, 17, 40, 101]:
        for drift in [0.0, 0.0003, -0.002]:
            for step in [0.0, 0.0002]:
                points = series(source, n, drift, step)
                x, y = zip(*points)
                p = mann_kendall(y)
                agrees_with_kendall(x, y, p)
                slope = stats.theilslopes(y, x).slope
                cases.append({"points": points, "theil_sen": float(slope), "mann_kendall_p": float(p)})
    # Equal times make no slope.
    points = [[0.0, 1.0], [0.0, 2.0], [1.0, 1.5], [1.0, 4.0], [2.0, 3.0]]
    x, y = zip(*points)
    p = mann_kendall(y)
    cases.append({"points": points, "theil_sen": float(stats.theilslopes(y, x).slope), "mann_kendall_p": float(p)})
    return cases


def mann_kendall(y):
    """Its own p-value is one minus a probability, which has no digits left when it is small."""
    return 2 * stats.norm.sf(abs(pymannkendall.original_test(y).z))


def agrees_with_kendall(x, y, p):
    """scipy's Kendall test is the same one without the correction for continuity: put it in and compare."""
    n = len(y)
    result = stats.kendalltau(range(n), y, method="asymptotic")
    pairs = n * (n - 1) / 2
    ties = sum(count * (count - 1) / 2 for count in (y.count(value) for value in set(y)))
    score = abs(result.statistic) * math.sqrt(pairs * (pairs - ties))
    if score < 1.5:
        assert p > 0.99
        return
    z = stats.norm.isf(result.pvalue / 2) * (score - 1) / score
    assert math.isclose(2 * stats.norm.sf(z), p, rel_tol=1e-6), (result, p)


def pooled(source):
    cases = []
    for sizes in [[2], [5, 1], [3, 4, 2], [10, 10, 10, 1, 6], [40, 2]]:
        groups = [[source.gauss(2.4 + i, 0.004) for _ in range(size)] for i, size in enumerate(sizes)]
        squares = sum((len(group) - 1) * numpy.var(group, ddof=1) for group in groups if len(group) > 1)
        freedom = sum(size - 1 for size in sizes)
        sd = math.sqrt(squares / freedom)
        if len(sizes) > 1 and 1 not in sizes:
            # An independent way: F of the analysis of variance is the spread between groups over ours, squared.
            f = anova_oneway(groups, use_var="equal").statistic
            grand = numpy.mean(sum(groups, []))
            between = sum(len(g) * (numpy.mean(g) - grand) ** 2 for g in groups) / (len(groups) - 1)
            assert math.isclose(sd, math.sqrt(between / f), rel_tol=1e-9)
        cases.append({"groups": groups, "sd": sd, "degrees_of_freedom": freedom})
    return cases


def correlations(source):
    cases = []
    for n, weight in [(3, 0.5), (5, -0.9), (12, 0.0), (60, 0.99)]:
        x = [source.gauss(25_000.0, 300.0) for _ in range(n)]
        y = [2.4 + weight * (value - 25_000.0) / 1e5 + source.gauss(0.0, 0.0005) for value in x]
        cases.append({"points": [[a, b] for a, b in zip(x, y)], "r": float(stats.pearsonr(x, y).statistic)})
    return cases


def main():
    source = random.Random(20260321)
    values = {
        "made_with": {
            "scipy": scipy.__version__,
            "numpy": numpy.__version__,
            "statsmodels": statsmodels.__version__,
            "pymannkendall": pymannkendall.__version__,
        },
        "student_t": student(),
        "chi_squared": chi_squared(),
        "normal": normal(),
        "trends": trends(source),
        "pooled_sd": pooled(source),
        "correlation": correlations(source),
    }
    # One case a line, so that a change shows as what it is.
    text = json.dumps(values)
    print(text.replace("], [", "],\n[").replace("}, {", "},\n{"))


if __name__ == "__main__":
    main()
