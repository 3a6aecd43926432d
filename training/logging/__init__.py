"""Write and show a run's log, history, curves and parameters, in its folder."""
