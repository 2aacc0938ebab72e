"""The maps phi of pullback geometries: invertible networks on events of any shape."""
