"""The parts that two papers or more share."""
