"""Write a network as a PyTorch module: readable source that only needs torch, with a class for each kind of block.

record.py     runs the network once, on a single image, and keeps what each of its blocks computes
operators.py  MXNet's operators as expressions of PyTorch
layers.py     Gluon's layers, and our own, as layers of PyTorch
forward.py    what a block computes, as the lines of a method ``forward``
classes.py    blocks of one form as one class, with the numbers that differ as its arguments
parts.py      what has no counterpart in PyTorch, as source
source.py     the file
"""

from inference.torch_source.source import Unwritten, torch_source

__all__ = ['Unwritten', 'torch_source']
