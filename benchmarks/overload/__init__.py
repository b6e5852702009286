"""`scripts/overload`: open-loop load at fractions and multiples of the measured capacity, and what becomes of it."""
