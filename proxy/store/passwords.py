"""Password hashes: argon2id, at the price a server can pay for every bind.

The parameters are OWASP's smallest for argon2id (19 MiB, two passes, one lane): about 20 ms of
one core a bind, and a hundred clients that reconnect at once do not take all the memory.
"""

from __future__ import annotations

from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hash_password(password: str) -> str:
    """The hash to store, with its salt and parameters; blocks for about 20 ms."""
    return _HASHER.hash(password)


def verify_password(password_hash: str, password: str) -> bool:
    """Whether the password is the one that was hashed; blocks for about 20 ms.

    A stored text that is not a hash at all matches no password.
    """
    try:
        return _HASHER.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False
