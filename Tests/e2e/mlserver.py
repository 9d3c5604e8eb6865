"""A real MLServer with a scikit-learn model of the iris data, and what scikit-learn itself says to every row of them."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from installation import REPOSITORY, Installation, answers_ok
from ports import free_port
from process import ManagedProcess, clean_environment

ENVIRONMENT = REPOSITORY / ".venv-workers"

# Runs in the environment of the worker, whose scikit-learn it is.
TRAIN = """
import json, sys
from pathlib import Path
import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
folder = Path(sys.argv[1])
rows, labels = load_iris(return_X_y=True)
model = LogisticRegression(max_iter=1000).fit(rows, labels)
joblib.dump(model, folder / "model.joblib")
answers = {"rows": rows, "predict": model.predict(rows), "predict_proba": model.predict_proba(rows)}
(folder / "answers.json").write_text(json.dumps({name: values.tolist() for name, values in answers.items()}))
"""


@dataclass(frozen=True)
class IrisServer:
    address: str
    url: str
    model: str
    rows: list[list[float]]
    classes: list[int]
    probabilities: list[list[float]]


@contextmanager
def iris_server(installation: Installation, model: str) -> Iterator[IrisServer]:
    python = ENVIRONMENT / "bin/python"
    assert python.exists(), (
        f"{ENVIRONMENT} is not there: python3 -m venv {ENVIRONMENT}, then install Tests/e2e/requirements-workers.txt with its pip"
    )
    folder = installation.log_folder / model
    folder.mkdir()
    subprocess.run([str(python), "-c", TRAIN, str(folder)], check=True, timeout=60, stdin=subprocess.DEVNULL)
    answers = json.loads((folder / "answers.json").read_text())
    port = free_port()
    write(
        folder / "settings.json",
        {
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": free_port(),
            "metrics_port": free_port(),
            "parallel_workers": 0,
            "debug": False,
        },
    )
    write(
        folder / "model-settings.json",
        {
            "name": model,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(folder / "model.joblib"), "version": "v1"},
        },
    )
    process = ManagedProcess(
        [str(ENVIRONMENT / "bin/mlserver"), "start", str(folder)],
        installation.log_folder,
        f"mlserver-{model}",
        clean_environment(),
        directory=folder,
    )
    installation.processes.append(process)
    url = f"http://127.0.0.1:{port}"
    try:
        process.wait_ready(lambda: answers_ok(url, f"/v2/models/{model}/ready"), "MLServer is ready", 60)
        yield IrisServer(
            f"127.0.0.1:{port}", url, model, answers["rows"], answers["predict"], answers["predict_proba"]
        )
    finally:
        process.stop(10)


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
