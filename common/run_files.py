"""Name the files of parameters in the folder of a run."""

__all__ = ['BEST', 'EARLIER', 'LAST']

BEST, LAST = 'best.params', 'last.params'
# Runs of earlier releases put the accuracy, the data set, the network and the epoch before 'best'.
EARLIER = '*-best.params'
