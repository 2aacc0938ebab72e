"""From events to codes and back: encoder, objective, decoding, and their diagnosis."""
