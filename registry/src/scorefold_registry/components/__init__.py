"""Components: the catalogue of names, building, saving and loading."""
