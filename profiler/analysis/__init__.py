"""What a dataset says: effects, trade-offs, repeatability, comparison. Rows in, frozen results out; prints nothing."""
