"""Ports for tests that must name them: a node with a base port takes it and the three above."""

import os
import socket

__all__ = ("free_base",)


def free_base(host: str = "127.0.0.1", groups: int = 2) -> int:
    """A base port with some free ones above it, below those that the system gives to whoever asks for any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for base in range(10_000 + os.getpid() % 1000 * 16, 32_000, 16):
        held = []
        try:
            for port in range(base, base + 4 * groups):
                one = socket.socket(family)
                held.append(one)
                one.bind((host, port))
        except OSError:
            continue
        else:
            return base
        finally:
            for one in held:
                one.close()
    raise AssertionError("no free ports")
