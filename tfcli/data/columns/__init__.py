"""Types that sources give: what a split holds, and conditions on it."""
