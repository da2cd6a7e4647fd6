"""The smallest SFU: ``tests/mcu/test_third_sfu.py`` copies this folder to ``mcu/example/``."""
