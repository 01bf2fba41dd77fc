"""Fixed, and run apart from the model: compares its answers with the labels, which it draws itself.

score.py SEED ANSWERS prints what docs/format.md of Sprag says of evaluators.
"""

import json
import math
import sys

import data


def say(**message):
    print(json.dumps(message))


def main():
    seed, path = sys.argv[1:]
    _, labels = data.test_set(seed)
    try:
        with open(path, encoding="utf-8") as file:
            answers = [float(line) for line in file]
    except (OSError, ValueError) as problem:
        return say(type="invalid", reason="protocol", detail=str(problem))
    if len(answers) != len(labels):
        return say(type="invalid", reason="shape", detail=f"{len(answers)} answers to {len(labels)} points")
    if not all(0.0 <= answer <= 1.0 for answer in answers):
        return say(type="invalid", reason="non_finite", detail="an answer is no probability")
    sure = [min(max(answer, 1e-6), 1 - 1e-6) for answer in answers]
    loss = -sum(math.log(answer if label else 1 - answer) for answer, label in zip(sure, labels)) / len(labels)
    right = sum((answer > 0.5) == bool(label) for answer, label in zip(answers, labels)) / len(labels)
    say(type="score", value=loss, facts={"accuracy": right})


main()
