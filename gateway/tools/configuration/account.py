"""The user account of the gateway, and actions on this machine with its permissions."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

SERVICE_USER = "portunus"  # of the unit that `portunus config init` writes, and of the container image


def service_account(name: str) -> pwd.struct_passwd:
    """Return the account of this name; without a name, the account as which the gateway most probably runs.

    Without a name: ``SERVICE_USER`` if this process is root and that user exists, else the user of this process.

    Raises:
        KeyError: there is no such user.
    """
    if name:
        return pwd.getpwnam(name)
    if os.geteuid() == 0:
        try:
            return pwd.getpwnam(SERVICE_USER)
        except KeyError:
            pass
    return pwd.getpwuid(os.geteuid())


def can_act_as(account: pwd.struct_passwd) -> bool:
    """Return whether this process may become the user."""
    return os.geteuid() in (0, account.pw_uid)


@contextmanager
def acting_as(account: pwd.struct_passwd) -> Iterator[None]:
    """Give the whole process the effective user and groups of an account, for checks of the account's permissions.

    Call it only if ``can_act_as`` is true.
    """
    if account.pw_uid == os.geteuid():
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    try:
        os.initgroups(account.pw_name, account.pw_gid)
        os.setegid(account.pw_gid)
        os.seteuid(account.pw_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
