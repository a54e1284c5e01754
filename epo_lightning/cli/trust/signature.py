"""The mark by which a user's own checkpoints are known again: a keyed hash of the configuration in them.

The key lies in the user's state folder, readable by nobody else. Without it the mark cannot be made; a run
folder that is moved or copied keeps its mark.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

KEY_BYTES = 32
_PURPOSE = b"epo-lightning configuration\0"
_BINARY: int = getattr(os, "O_BINARY", 0)
"""Windows would change bytes that look like ends of lines."""
_NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)


def key_file() -> Path:
    """Where the key lies: in `$XDG_STATE_HOME`, by default `~/.local/state`.

    Raises:
        OSError: When this user has no home folder.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    try:
        state = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise OSError(str(error)) from error
    return state / "epo_lightning" / "checkpoint.key"


def sign(text: str) -> str:
    """The mark of `text` by this user's key, which is made when there is none.

    Raises:
        OSError: When the key can neither be read nor made.
    """
    file = key_file()
    if not file.exists():
        _make_key(file)
    return _mark(_read_key(file), text)


def is_signed(text: str, mark: object) -> bool:
    """Whether `mark` is that of `text` by this user's key."""
    if not isinstance(mark, str):
        return False
    try:
        expected = _mark(_read_key(key_file()), text)
    except OSError:
        return False
    return hmac.compare_digest(expected.encode(), mark.encode("utf-8", "surrogatepass"))


def _mark(key: bytes, text: str) -> str:
    # HMAC-SHA256(key, purpose | text)
    return hmac.new(key, _PURPOSE + text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _read_key(file: Path) -> bytes:
    """The key, when only this user can read it: everyone who can read it can make the mark."""
    descriptor = os.open(file, os.O_RDONLY | _NO_LINK | _BINARY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not _is_private(status):
            raise PermissionError(None, "the key must be a file that only its owner can read", str(file))
        key = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise OSError(None, "this is not a key; delete it", str(file))
    return key


def _is_private(status: os.stat_result) -> bool:
    """Whether nobody else can read it; Windows says so by the rights of the user's folder, not by owner and mode."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077


def _make_key(file: Path) -> None:
    """Make it in one step: of several processes that try at once, one wins."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as new:
            new.write(secrets.token_bytes(KEY_BYTES))
            new.flush()
            os.fsync(new.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(part, file)
    finally:
        part.unlink()
