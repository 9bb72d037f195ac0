"""Answers to the exercises, one of many each."""
