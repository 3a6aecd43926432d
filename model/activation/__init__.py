"""Activation units: blocks ``x -> x`` that stand where a network would put a ReLU."""

from model.activation.factory import ACTIVATIONS, activation_factory

__all__ = ['ACTIVATIONS', 'activation_factory']
