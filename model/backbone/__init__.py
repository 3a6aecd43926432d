"""Backbones: networks that take an activation factory and an attention factory."""
