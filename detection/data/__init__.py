"""Data sets of boxes in COCO's format, their images as detectors see them, and COCO's figures."""
