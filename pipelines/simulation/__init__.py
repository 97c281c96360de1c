"""The whole loop against simulated readers: days of traffic through a real gateway, while what they like moves."""
