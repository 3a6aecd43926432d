"""Shared foundations: errors, files, locks, schemas, text and HTML. Imports the standard library only."""

OWNER = 'attention-networks'  # tells this package from another of the same name
