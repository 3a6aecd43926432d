"""How ranks gather what each of them has found."""

import numpy as np

from detection.evaluate import gathered
from detection.metrics import Found
from training.distributed.ranks import Ranks


class Pair(Ranks):
    """Act as one of two ranks, of which the other has found `other`."""

    size = 2

    def __init__(self, other):
        self.other = other

    def total(self, values):
        mine = np.asarray(values)
        if self.other is None:
            self.sent = mine
            return mine
        return mine + self.other


def test_ranks_gather_all_that_was_found():
    random = np.random.RandomState(0)
    found = {i: Found(random.rand(k, 4), random.rand(k), random.randint(0, 9, k)) for i, k in enumerate((3, 0, 100, 1))}
    second = Pair(None)
    gathered({i: found[i] for i in (1, 3)}, 5, second)
    everything = gathered({i: found[i] for i in (0, 2)}, 5, Pair(second.sent))
    assert set(everything) == {0, 1, 2, 3}  # no rank has scored the last image
    for index, one in everything.items():
        assert one.boxes.tolist() == found[index].boxes.tolist()
        assert one.scores.tolist() == found[index].scores.tolist()
        assert one.labels.tolist() == found[index].labels.tolist()
