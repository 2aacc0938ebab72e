"""A module that can't be imported here."""

import no_such_module_anywhere

Thing = no_such_module_anywhere
