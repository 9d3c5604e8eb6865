#!/usr/bin/env python3
"""Trains the reference worker's built-in iris model and writes down what it answers.

Writes, relative to the root of the repository:

  Sources/ReferenceWorker/Models/iris.json   the coefficients, embedded into the worker
  Tests/e2e/data/iris.csv                    150 rows: features, true label, predicted label, probabilities

Both files hold every number with the shortest text that reads back as the same double.

Made with Python 3.11.7 and exactly these versions; others may differ in the last digits:

  python3 -m venv .venv-iris
  .venv-iris/bin/pip install scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
  .venv-iris/bin/python scripts/train-iris.py
"""

import csv
import json
import pathlib
import platform

import numpy
import scipy
import sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL_FILE = ROOT / "Sources/ReferenceWorker/Models/iris.json"
ANSWERS_FILE = ROOT / "Tests/e2e/data/iris.csv"

VERSION = "1"
FEATURES = ["sepal_length_cm", "sepal_width_cm", "petal_length_cm", "petal_width_cm"]


def main():
    data = load_iris()
    features = data.data
    labels = data.target_names[data.target]

    # All 150 rows: this model exists to have known answers, not to generalise. The
    # cross-validated accuracy below says how it would do on flowers it has not seen.
    model = LogisticRegression(max_iter=1000).fit(features, labels)
    predicted = model.predict(features)
    probabilities = model.predict_proba(features)
    folds = cross_val_score(
        LogisticRegression(max_iter=1000), features, labels, cv=StratifiedKFold(n_splits=5))

    write_model(model)
    write_answers(features, labels, predicted, probabilities, model.classes_)

    wrong = [row for row in range(len(labels)) if labels[row] != predicted[row]]
    print(f"python {platform.python_version()}, scikit-learn {sklearn.__version__}, "
          f"numpy {numpy.__version__}, scipy {scipy.__version__}")
    print(f"iterations until convergence: {int(model.n_iter_[0])}")
    print(f"training accuracy: {len(labels) - len(wrong)}/{len(labels)} = {model.score(features, labels):.6f}")
    print(f"5-fold cross-validation accuracy: {folds.mean():.6f} "
          f"(folds: {', '.join(f'{fold:.6f}' for fold in folds)})")
    print("rows that the model gets wrong, counted from 1:")
    for row in wrong:
        print(f"  {row + 1}: {features[row].tolist()} is {labels[row]}, predicted {predicted[row]} "
              f"with probability {probabilities[row].max():.4f}")


def write_model(model):
    document = {
        "name": "iris",
        "version": VERSION,
        "kind": "logistic",
        "features": FEATURES,
        "classes": model.classes_.tolist(),
        "coefficients": model.coef_.tolist(),
        "intercepts": model.intercept_.tolist(),
    }
    MODEL_FILE.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_answers(features, labels, predicted, probabilities, classes):
    ANSWERS_FILE.parent.mkdir(parents=True, exist_ok=True)
    with ANSWERS_FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FEATURES + ["label", "predicted"] + [f"probability_{name}" for name in classes])
        for row in range(len(labels)):
            writer.writerow(
                [repr(value) for value in features[row].tolist()]
                + [labels[row], predicted[row]]
                + [repr(value) for value in probabilities[row].tolist()])


if __name__ == "__main__":
    main()
