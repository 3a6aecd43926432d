"""Fixtures: a network whose answers the tests hold back, and a trained one."""

import pytest

from tests.scripts.conftest import digits_params

__all__ = ['digits_params']


@pytest.fixture
def held():
    from tests.inference.serving.server import Held

    return Held()
