"""Quantizing weights and activations, after training or while training, and the stages that do it."""
