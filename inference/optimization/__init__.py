"""The fastest form of a network on this machine, with the same answers: optimizer.py says in which order.

fold.py, channel_products.py, single_map.py   forms of layers that fuse, or that are fast
onednn.py                                     MXNet's fusion for oneDNN
bfloat16.py, float16.py, int8.py              other precisions
program.py, lanes.py                          what runs: with fixed memory, images in parallel
"""
