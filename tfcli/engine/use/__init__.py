"""Use a trained model: predict, evaluate, sample, translate, export, show attention."""
