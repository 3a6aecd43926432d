"""MXNet's RecordIO files: written, checked, and read.

framing.py, index.py, records.py   the format: bytes, the text files beside them, random access with checks
listing.py, packing.py             what a file is made from, and how
checking.py                        whether a file is whole
"""
