"""The originals' initial values."""

import mxnet as mx
import numpy as np
import pytest

from model import get_model


def initialized(name, **options):
    net = get_model(name, classes=1000, **options)
    mx.random.seed(0)
    net.initialize(mx.init.MSRAPrelu())
    return {key: p.data().asnumpy() for key, p in net._collect_params_with_prefix().items()}


def test_dcanets_resnets_start_from_he_and_pytorchs_dense_layers():
    values = initialized('se_resnet50_v1b', initialization='he')
    assert values['fc.weight'].std() == pytest.approx(0.0128, rel=0.01)
    assert abs(values['fc.weight']).max() <= 1 / np.sqrt(2048)
    assert 0 < abs(values['fc.bias']).max() <= 1 / np.sqrt(2048)
    for key, value in values.items():
        if value.ndim == 4:
            fan_out = value.shape[0] * value.shape[2] * value.shape[3]
            assert value.std() == pytest.approx(np.sqrt(2 / fan_out), rel=0.05), key


def test_those_with_cbam_have_a_he_classifier():
    values = initialized('cbam_resnet50_v1b', initialization='he_dense')
    assert values['fc.weight'].std() == pytest.approx(np.sqrt(2 / 2048), rel=0.01)
    assert not values['fc.bias'].any()


def test_the_default_is_msras():
    values = initialized('resnet50_v1b')
    assert values['fc.weight'].std() == pytest.approx(0.0351, rel=0.01)
    assert not values['fc.bias'].any()


@pytest.mark.parametrize('initialization', ['msra', 'he', 'he_dense'])
def test_layers_with_values_of_their_own_keep_them(initialization):
    """GC's last convolution starts at zero, so that the unit starts as the identity."""
    values = initialized('gc_resnet18_v1b', initialization=initialization)
    last = [key for key in values if key.endswith('attention.expand.weight')]
    plain = initialized('gc_resnet18_v1b')
    for key in last:
        assert values[key].std() == pytest.approx(plain[key].std(), rel=0.05)


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="initialization is 'torch'; allowed: 'msra', 'he', 'he_dense'"):
        get_model('resnet18_v1b', initialization='torch')
