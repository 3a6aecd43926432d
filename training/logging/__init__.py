"""What a run writes and shows: log, history, curves, parameters, their folder."""
