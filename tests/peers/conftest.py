"""Comparisons with other libraries are collected only where they are asked for, `-m peers`: the plain test run stays short."""


def pytest_ignore_collect(config):
    return None if config.option.markexpr == "peers" else True
