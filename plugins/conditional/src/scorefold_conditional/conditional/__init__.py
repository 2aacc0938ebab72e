"""The score of events given a condition that may diffuse too."""
