"""State dictionaries, and files of them, for tests."""

import numpy as np
import pytest

from environment import UserError
from model.convert.files import read_state

STATE = {'a.weight': np.arange(6, dtype='float32').reshape(2, 3), 'a.bias': np.ones(2, 'float32')}


def same(state, expected=STATE):
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        assert state[name].shape == array.shape, name
        np.testing.assert_array_equal(state[name].astype('float64'), array.astype('float64'), err_msg=name)
    return True


def refused(path, content, words):
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_state(path)
    assert '\n' not in str(error.value)
    assert len(str(error.value)) < 700
