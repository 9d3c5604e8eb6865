"""Tenants, keys, models and routes of a test's own, made through the admin API."""

import itertools
import os
from dataclasses import dataclass
from typing import Any

from api import AdminClient
from books import bare
from installation import Installation

_numbers = itertools.count(1)


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
    made = admin.expect("POST", f"/admin/v1/tenants/{tenant_id}/keys", {"name": unique("key"), **more}, (201,))
    return Key(made["key"], made["key_id"])


def make_tenant(installation: Installation, tier: str = "premium", **more: Any) -> Tenant:
    """A tenant with one key."""
    admin = installation.admin
    made = admin.expect("POST", "/admin/v1/tenants", {"name": unique("tenant"), "tier": tier, **more}, (201,))
    tenant_id = bare(made["tenant_id"])
    key = make_key(admin, tenant_id)
    return Tenant(tenant_id, key.key, key.key_id)


def make_model(installation: Installation, name: str, feature_count: int | None = 4, **more: Any) -> None:
    """Registers a model; without a route it cannot be reached yet."""
    installation.admin.expect(
        "POST", "/admin/v1/models",
        {"name": name, "version": "1", "feature_count": feature_count, "fixed_tokens_per_request": 5,
         "maximum_output_tokens": 16, **more}, (200, 201))


def route(installation: Installation, model: str, *addresses: str, protocol: str = "predict") -> None:
    """Sends a model's requests to these workers and to no other."""
    installation.admin.expect(
        "PUT", f"/admin/v1/routes/{model}",
        {"replicas": [{"address": address, "protocol": protocol, "weight": 1, "version": "1"} for address in addresses]})
