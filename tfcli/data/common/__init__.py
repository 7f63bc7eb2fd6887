"""Parts that all data sets share: sampling order, random numbers, folders, downloads, loaders."""
