"""Data sets of boxes in COCO's format."""
