"""Products with the matrices of a model, in the number formats that they have."""
