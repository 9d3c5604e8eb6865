"""Tenants, keys, models and routes of a test's own, made through the admin API."""

import itertools
import os
from dataclasses import dataclass
from typing import Any

from api import AdminClient
from installation import Installation

_numbers = itertools.count(1)

# A tier whose limits are there and never reached.
WIDE_TIER = "wide"


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{os.getpid()}-{next(_numbers)}"


@dataclass(frozen=True)
class Key:
    key: str
    key_id: str


@dataclass(frozen=True)
class Tenant:
    id: str
    key: str
    key_id: str


def make_key(admin: AdminClient, tenant_id: str, **more: Any) -> Key:
    wanted = {"name": unique("key"), "scopes": ["predict", "read", "billing"], **more}
    made = admin.expect("POST", f"/admin/v1/tenants/{tenant_id}/keys", wanted, (201,))
    return Key(made["key"], made["id"])


def make_tier(installation: Installation, code: str, quotas: list[dict[str, Any]]) -> None:
    """A tier that charges a little for everything, with these quotas; nothing happens where it is there."""
    answer = installation.admin.call(
        "POST",
        "/admin/v1/tiers",
        {
            "code": code,
            "name": code,
            "version": {
                "currency": "USD",
                "prices": [
                    {"meter": meter, "model": "*", "unit_price": "0.000001"}
                    for meter in ("request", "input_token", "output_token")
                ],
                "quotas": quotas,
            },
        },
    )
    assert answer.status in (201, 409), (answer.status, answer.body)


def make_tenant(installation: Installation, tier: str = WIDE_TIER) -> Tenant:
    """A tenant with one key."""
    if tier == WIDE_TIER:
        make_tier(
            installation,
            WIDE_TIER,
            [
                {"unit": "requests", "frequency": "month", "amount": 1_000_000_000, "mode": "hard"},
                {"unit": "tokens", "frequency": "month", "amount": 1_000_000_000_000, "mode": "hard"},
            ],
        )
    made = installation.admin.expect("POST", "/admin/v1/tenants", {"name": unique("tenant"), "tier": tier}, (201,))
    key = make_key(installation.admin, made["id"])
    return Tenant(made["id"], key.key, key.key_id)


def make_model(installation: Installation, name: str, feature_count: int | None = 4, **more: Any) -> None:
    """Registers a model; without a route it cannot be reached yet."""
    installation.admin.expect(
        "POST",
        "/admin/v1/models",
        {
            "name": name,
            "version": "1",
            "feature_count": feature_count,
            "fixed_tokens_per_request": 5,
            "maximum_output_tokens": 16,
            **more,
        },
        (201,),
    )


def route(installation: Installation, model: str, *addresses: str, protocol: str = "predict") -> None:
    """Sends a model's requests to these workers and to no other."""
    installation.admin.expect(
        "PUT",
        f"/admin/v1/routes/{model}",
        {
            "replicas": [
                {"address": address, "protocol": protocol, "weight": 1, "version": "1"} for address in addresses
            ]
        },
        (200,),
    )
