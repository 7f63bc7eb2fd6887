"""Parts that sets of every kind share: order, counters, folders, workers, loaders."""
