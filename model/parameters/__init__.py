"""Parameters of networks: reading and writing files, names, and trained networks that can be had by name."""
