"""Baselines of tasks: guesses and simple models, as plain functions of labels, texts and pixels."""
