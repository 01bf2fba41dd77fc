"""Asks Optuna for the next point. Reads what is known from a file, prints one JSON object.

The study is made anew from what is known: nothing is kept between two askings.
"""

import json
import math
import sys


def distribution(optuna, knob):
    """What a knob can be, in Optuna's terms."""
    kinds = optuna.distributions
    if knob["kind"] == "choice":
        return kinds.CategoricalDistribution(knob["choices"])
    low, high, log = knob["low"], knob["high"], knob["kind"] == "log"
    if knob["whole"]:
        low, high = math.ceil(low), math.floor(high)
        return kinds.IntDistribution(low, high, log=log and low >= 1)
    return kinds.FloatDistribution(low, high, log=log)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        known = json.load(file)
    try:
        import optuna
    except ImportError as missing:
        print(json.dumps({"missing": str(missing)}))
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {knob["name"]: distribution(optuna, knob) for knob in known["knobs"]}
    sampler = optuna.samplers.TPESampler(seed=known["seed"])
    study = optuna.create_study(direction=known["direction"], sampler=sampler)
    for trial in known["trials"]:
        params = trial["params"]
        distributions = {name: space[name] for name in params}
        failed = trial["value"] is None
        result = {"state": optuna.trial.TrialState.FAIL} if failed else {"value": trial["value"]}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, **result))
    asked = study.ask(fixed_distributions=space)
    print(json.dumps({"version": optuna.__version__, "params": asked.params}))


main()
