"""Run files of ``scorefold start``: the settings of the data, and the stages that answer a question."""
