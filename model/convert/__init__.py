"""Convert parameters of other projects' networks to ours, and ours to a state dictionary for PyTorch.

from model import get_model
from model.convert import load_state_dict, to_state_dict
net = get_model('dca_se_resnet50_v1b')
load_state_dict(net, state, source='dcanet')          # state: {original name: array}
state = to_state_dict(net, target='dcanet')           # and back

    name, arguments = counterpart('timm', 'seresnet50')   # our network for theirs
    load_state_dict(get_model(name, **arguments), state, source='timm')

Each original has a file with its table of names, which is derived from the network's structure
(:mod:`model.convert.tables`).
"""

from __future__ import annotations

from model.convert.counterparts import counterpart
from model.convert.load import StateError, load_state_dict
from model.convert.save import to_state_dict
from model.convert.tables import SOURCES

__all__ = ['SOURCES', 'StateError', 'counterpart', 'load_state_dict', 'to_state_dict']
