"""Guesses and simple models that stand beside a task's result: plain functions on labels, texts and pixels."""
