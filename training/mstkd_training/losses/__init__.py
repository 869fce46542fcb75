"""The terms of the objective: small functions of tensors, each with its formula and source."""
