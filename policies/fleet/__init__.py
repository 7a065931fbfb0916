"""The fleet as it would be: what is free, what a place there is worth, how GPUs can be divided."""
