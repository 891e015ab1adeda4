"""What must hold for all inputs, and what Hypothesis makes of them."""
