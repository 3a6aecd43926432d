"""What a run leaves behind and shows on its way: log, history, curves, parameters, their folder."""
