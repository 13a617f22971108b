"""What is found out about patterns before any model: pixels, brightness, background, outliers, the diameter."""
