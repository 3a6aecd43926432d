"""Activation units: blocks ``x -> x`` that replace a ReLU."""

from model.activation.factory import ACTIVATIONS, activation_factory

__all__ = ['ACTIVATIONS', 'activation_factory']
