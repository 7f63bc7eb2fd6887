"""From a run folder or public weights to a model. Knows no Trainer."""
