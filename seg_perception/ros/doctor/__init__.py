"""The doctor: looks at machine, wiring and images, and says what is wrong and how to mend it."""
