"""Columns and tables of a data set, their splits, and checks of them."""
