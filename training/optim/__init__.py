"""Optimizers, schedules, averaging, and what scales losses and gradients."""
