"""Fixtures: installations, gateways and workers. What a fixture starts is gone when it ends, also after a failure."""

from collections.abc import Iterator

import pytest

from installation import Gateway, Installation
from tenancy import Tenant, make_tenant
from wire import Wire


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """One `weir dev` for all tests that leave it as they found it."""
    with Installation() as running:
        yield running


@pytest.fixture(scope="session")
def second_gateway(installation: Installation) -> Gateway:
    """A `weir serve` beside the one of `weir dev`, on the same database."""
    return installation.gateway("second").start()


@pytest.fixture
def tenant(installation: Installation) -> Tenant:
    """A tenant and key that no other test uses."""
    return make_tenant(installation)


@pytest.fixture
def key(installation: Installation) -> str:
    """The demo tenant's key."""
    return installation.customer_key


@pytest.fixture
def wire(installation: Installation) -> Iterator[Wire]:
    """A connection that no other test uses."""
    with Wire(installation.public_url) as connection:
        yield connection
