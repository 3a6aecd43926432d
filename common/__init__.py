"""What every package stands on: errors, files, locks, schemas, text and HTML; the standard library alone."""

OWNER = 'attention-networks'  # tells this package from another of the same name
