"""A training step and all that has a say in it: loss, optimizer, schedule, precision, averaging, undoing."""
