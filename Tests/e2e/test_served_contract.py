"""The written contract and the server: the same routes, the same shapes, and no input that makes the server break
either.
"""

import string
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import strategies
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api import bearer, get
from installation import REPOSITORY, Installation, binary
from process import clean_environment
from tenancy import make_key, make_tenant

pytestmark = pytest.mark.timeout(200)

PUBLIC = REPOSITORY / "openapi/weir.yaml"
ADMIN = REPOSITORY / "openapi/weir-admin.yaml"
METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}
SEED = 20_260_801


def document(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def described_routes(path: Path) -> set[str]:
    return {
        f"{method.upper()} {route}"
        for route, item in document(path)["paths"].items()
        for method in item
        if method in METHODS
    }


def registered_routes(*listener: str) -> set[str]:
    done = subprocess.run(
        [binary(), "serve", "--print-routes", *listener],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return set(done.stdout.split("\n")) - {""}


@pytest.mark.parametrize(("path", "listener"), [(PUBLIC, []), (ADMIN, ["admin"])], ids=["public", "admin"])
def test_every_registered_route_is_described_and_the_other_way_round(path: Path, listener: list[str]) -> None:
    assert registered_routes(*listener) == described_routes(path)


def test_the_served_contract_is_the_written_one(installation: Installation) -> None:
    answer = get(installation.public_url, "/openapi.yaml")
    assert answer.status == 200
    assert (answer.header("content-type") or "").split(";")[0] == "application/yaml"
    assert answer.body == PUBLIC.read_bytes()


# The generator takes a field that the contract does not name for a violation of it. HTTP passes over what it does not know
# (RFC 9110, section 5.1), and so do we.
UNKNOWN_FIELD = "x-schemathesis-unknown-property"


def configuration(examples: int) -> schemathesis.Config:
    """A fixed seed and few examples: the same requests in every run."""
    return schemathesis.Config.from_dict(
        {
            "seed": SEED,
            "suppress-health-check": ["all"],
            # The tests send a key of their own; an invented one beside it would be a second credential.
            "generation": {"max-examples": examples, "deterministic": True, "with-security-parameters": False},
            "checks": {
                # What the schema allows and the model does not take, or what is not there now, is an honest answer.
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", "401", "403", "404", "409", "413", "422", "429", "503", "504"]
                },
                # Who wants a kept answer and no other is told by 504 that there is none (RFC 9111, section 5.2.1.7).
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "504"]},
                "negative_data_rejection": {"expected-statuses": ["400", "404", "405", "409", "413", "415", "422"]},
            },
            # It is a text; the checker would parse it and compare the result.
            "operations": [
                {"include-path": "/openapi.yaml", "checks": {"response_schema_conformance": {"enabled": False}}},
                # The Open Inference Protocol has 400 where the native surface has 422: no schema says how many elements a shape has.
                {
                    "include-path-regex": "^/v2",
                    # Many routes of few shapes.
                    "generation": {"max-examples": 8},
                    "checks": {
                        "positive_data_acceptance": {
                            "expected-statuses": ["2xx", "400", "401", "403", "404", "409", "413", "422", "429", "503", "504"]
                        }
                    },
                },
            ],
        }
    )


LETTERS = string.ascii_lowercase + string.digits


def lists_of_tags() -> strategies.SearchStrategy[str]:
    """For the format `tags`. No pattern can say that each key is there once; and for a header whose pattern asks for more than letters and
    digits the generator's systematic phase falls back to a lone "0", which is no tag.
    """
    key = strategies.builds(
        str.__add__, strategies.sampled_from(LETTERS), strategies.text(LETTERS + "_.-", max_size=31)
    )
    value = strategies.text(string.ascii_letters + string.digits + "_.:/@+-", min_size=1, max_size=64)
    pairs = strategies.dictionaries(key, value, min_size=1, max_size=16)
    return pairs.map(lambda tags: ",".join(f"{key}={value}" for key, value in tags.items()))


schemathesis.openapi.format("tags", lists_of_tags())
public_schema = schemathesis.openapi.from_path(PUBLIC, config=configuration(20))
admin_schema = schemathesis.openapi.from_path(ADMIN, config=configuration(10))


@pytest.fixture(scope="module")
def customer(installation: Installation) -> str:
    """The key of a tenant whose quota generated requests cannot exhaust."""
    tenant = make_tenant(installation)
    scopes = ["predict", "read", "billing", "webhooks", "admin"]
    return make_key(installation.admin, tenant.id, scopes=scopes).key


@pytest.fixture(scope="module")
def administered() -> Iterator[Installation]:
    """An installation of its own: generated changes reach tenants, tiers and routes."""
    with Installation(arguments=["--no-redis"]) as running:
        yield running


def may_be_refused_by_400(case: schemathesis.Case, answer: schemathesis.Response) -> bool:
    """The OpenAI API has 400 where the native surface has 422, for a body that is well-formed and asks for what cannot be. And no schema
    says how far ahead an instant is. Any other 400 would be a request that the contract lets through and the server does not.
    """
    if answer.status_code != 400:
        return False
    if case.path.startswith("/v1/") and answer.json()["error"]["code"] == "validation_failed":
        return True
    instant = (case.headers or {}).get("x-weir-run-at")
    return instant is not None and is_more_than_seven_days_ahead(instant) and b"seven days ahead" in answer.content


def is_more_than_seven_days_ahead(instant: str) -> bool:
    try:
        then = datetime.fromisoformat(instant.replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError:
        return False
    return then - datetime.now(UTC) > timedelta(days=7)


@public_schema.parametrize()
def test_public_requests_keep_to_the_contract(
    case: schemathesis.Case, installation: Installation, customer: str
) -> None:
    if UNKNOWN_FIELD in (case.headers or {}):
        return
    transport = {"base_url": installation.public_url, "headers": bearer(customer), "timeout": 20}
    answer = case.call(**transport)
    excluded = [positive_data_acceptance] if may_be_refused_by_400(case, answer) else []
    case.validate_response(
        answer, excluded_checks=excluded, headers=transport["headers"], transport_kwargs=transport
    )


@admin_schema.parametrize()
def test_admin_requests_keep_to_the_contract(case: schemathesis.Case, administered: Installation) -> None:
    case.call_and_validate(base_url=administered.admin_url, headers=bearer(administered.admin_key), timeout=20)
