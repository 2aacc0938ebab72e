"""Answers for the page: functions of the opened data and a few numbers, which return plain data."""
