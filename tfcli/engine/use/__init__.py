"""A trained model at work: predictions, measures, texts, attention."""
