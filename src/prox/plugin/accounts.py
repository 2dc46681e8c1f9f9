"""Users and groups of the system: whom a plugin's process runs as. Look-ups may wait: run them in a thread."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from typing import Final

from .errors import PluginStartError
from .limits import PluginLimits

HIGHEST_ID: Final = 2**32 - 2
"""The number above it means "leave it as it is" to the kernel, so it must never get there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whom a process runs as.

    Attributes:
        uid: the user's number.
        gid: the group's number.
        groups: all groups, the supplementary ones too.
        name: the user's name; empty where it has none.
        home: its home directory.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str


def find_account(limits: PluginLimits | None) -> Account | None:
    """Whom these limits name; None where that is who prox is.

    Groups are those that the system lists for the user, and the given group in place of its own. A group alone
    leaves the user and takes away all other groups.

    Raises:
        PluginStartError: the system knows no such user or group.
    """
    if limits is None or (limits.user is None and limits.group is None):
        return None
    own_uid, own_gid = os.geteuid(), os.getegid()
    entry = None
    uid = own_uid
    if limits.user is not None:
        uid, entry = _find_user(limits.user)
    if limits.group is not None:
        gid = _find_group(limits.group)
    elif entry is not None:
        gid = entry.pw_gid
    else:
        raise PluginStartError(f"user {limits.user} is in no list of the system: give limits.group too")
    if uid == own_uid and gid == own_gid and own_uid != 0:
        return None  # nothing to change, and no right to
    groups = (gid,) if entry is None else tuple(os.getgrouplist(entry.pw_name, gid))
    if limits.user is None:
        return Account(uid=uid, gid=gid, groups=groups, name="", home="")
    name, home = ("", "/") if entry is None else (entry.pw_name, entry.pw_dir)
    return Account(uid=uid, gid=gid, groups=groups, name=name, home=home)


def _find_user(user: str) -> tuple[int, pwd.struct_passwd | None]:
    """The user of that name, or else of that number, which need not be listed."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        uid = _number(user)
    else:
        return entry.pw_uid, entry
    if uid is None:
        raise PluginStartError(f"there is no user {user}: create it, or name another in limits.user")
    try:
        return uid, pwd.getpwuid(uid)
    except KeyError:
        return uid, None


def _find_group(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        gid = _number(group)
    if gid is None:
        raise PluginStartError(f"there is no group {group}: create it, or name another in limits.group")
    return gid


def _number(text: str) -> int | None:
    if text.isascii() and text.isdigit() and int(text) <= HIGHEST_ID:
        return int(text)
    return None
