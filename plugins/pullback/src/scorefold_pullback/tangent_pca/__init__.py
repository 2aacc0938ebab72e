"""Statistics of points in a geometry, and the dimension by principal geodesics."""
