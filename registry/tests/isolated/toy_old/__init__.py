"""A plugin on the library ``clash``, of which two versions can't be installed together."""
