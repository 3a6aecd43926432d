"""Tools are run like scripts."""

from tests.scripts.conftest import bare_params, digits_params, in_process, run

__all__ = ['bare_params', 'digits_params', 'in_process', 'run']
