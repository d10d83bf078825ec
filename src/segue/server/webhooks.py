"""Webhooks: programs that must say yes to a release before its nodes go, asked over HTTPS and remembered for a while.

Decisions are made within a transaction, which waits for nobody: whoever looks for an answer gets what is known, and
what is not known, or not for much longer, is asked meanwhile.
"""

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

import httpx

from segue.errors import PeerError
from segue.model.clock import Clock
from segue.model.fleet import Answer
from segue.model.ids import SystemName, Version

logger = logging.getLogger(__name__)

#: Seconds for which an answer holds; after half of them it is asked for again, if somebody still wants to know.
KEEP_S = 30.0
#: Seconds that a webhook has to answer.
TIMEOUT_S = 5.0
#: Webhooks that are asked at once: one that hangs must not keep the others from being asked.
_AT_ONCE = 8
#: The most that an answer has; it is an object of two fields.
_LIMIT_BYTES = 64 * 1024
#: As much of its reason is kept.
_REASON_CHARS = 300

_Question: TypeAlias = tuple[SystemName, str, Version]


@dataclass(frozen=True, slots=True)
class _Known:
    answer: Answer
    at: datetime


class Webhooks:
    """What webhooks say, as far as it is known. Any thread may ask.

    Args:
        clock: by which answers grow old.
        keep_s: seconds for which an answer holds.
        timeout_s: seconds that a webhook has to answer.
    """

    def __init__(self, clock: Clock, *, keep_s: float = KEEP_S, timeout_s: float = TIMEOUT_S) -> None:
        self._clock, self._keep_s, self._timeout_s = clock, keep_s, timeout_s
        self._lock = threading.Lock()
        self._known: dict[_Question, _Known] = {}
        self._asking: set[_Question] = set()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhooks")

    def of(self, system: SystemName) -> "SystemWebhooks":
        """Return what webhooks say to the releases of one system."""
        return SystemWebhooks(self, system)

    def answer(self, system: SystemName, url: str, version: Version) -> Answer | None:
        """Return what is known, and have asked what is not, or not for much longer; None if nothing is known yet.

        Args:
            system: the release's.
            url: the webhook's.
            version: the release.
        """
        question, now = (system, url, version), self._clock.now()
        with self._lock:
            known = self._known.get(question)
            age = now - known.at if known else None
            if (age is None or age >= timedelta(seconds=self._keep_s / 2)) and question not in self._asking:
                self._asking.add(question)
                self._pool.submit(self._ask, question)
        if known is None or age is None or age < timedelta(seconds=self._keep_s):
            return known.answer if known else None
        return Answer(says=None, since=known.at, text="its last answer is too old, and it is asked again")

    def close(self) -> None:
        """Ask no more; what is being asked ends within its time."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, question: _Question) -> None:
        system, url, version = question
        try:
            says, text = self._answer_of(url, {"system": system, "version": version})
        except PeerError as error:
            says, text = None, str(error)
        except Exception as error:  # whatever it is, somebody waits for a reason, and this thread tells nobody
            logger.exception("webhook %s could not be asked", url)
            says, text = None, f"{type(error).__name__}: {error}"
        now = self._clock.now()
        answer = Answer(says=says, since=now, text=" ".join(text.split())[:_REASON_CHARS])
        with self._lock:
            before = self._known.get(question)
            if before and before.answer.says is says:
                answer = replace(answer, since=before.answer.since)
            else:
                logger.info(
                    "webhook %s says %s to release %s of %s: %s", url, _word(says), version, system, answer.text
                )
            self._known[question] = _Known(answer, now)
            self._asking.discard(question)

    def _answer_of(self, url: str, body: dict[str, object]) -> tuple[bool, str]:
        """Ask, and return what the webhook says and why.

        Raises:
            PeerError: it does not answer, or not as it must: the message says how.
        """
        ends = time.monotonic() + self._timeout_s
        late = f"it took longer than {self._timeout_s:g} s"
        try:
            with httpx.stream("POST", url, json=body, timeout=self._timeout_s) as response:
                if response.status_code != 200:
                    raise PeerError(f"it answered with status {response.status_code}")
                content = b""
                for part in response.iter_bytes():
                    content += part
                    if len(content) > _LIMIT_BYTES:
                        raise PeerError(f"its answer is longer than {_LIMIT_BYTES} bytes")
                    if time.monotonic() > ends:  # each part may come in time, and all of them late
                        raise PeerError(late)
        except httpx.TimeoutException:
            raise PeerError(late) from None
        except httpx.HTTPError as error:
            raise PeerError(f"it cannot be reached: {error}") from error
        return _said(content)


@dataclass(frozen=True, slots=True)
class SystemWebhooks:
    """What webhooks say to the releases of one system: an `Answers` of `decisions`."""

    webhooks: Webhooks
    system: SystemName

    def get(self, key: tuple[str, Version], /) -> Answer | None:
        """Return what the webhook at a URL says to a release; None if nothing is known yet."""
        url, version = key
        return self.webhooks.answer(self.system, url, version)


def _said(content: bytes) -> tuple[bool, str]:
    """Read `{"go": true}` or `{"go": false, "reason": "…"}`.

    Raises:
        PeerError: it is something else.
    """
    try:
        said = json.loads(content)
    except ValueError as error:
        raise PeerError(f"its answer is not JSON: {error}") from error
    go, reason = (said.get("go"), said.get("reason", "")) if isinstance(said, dict) else (None, "")
    if not isinstance(go, bool) or not isinstance(reason, str):
        raise PeerError('its answer is not {"go": true} or {"go": false, "reason": "…"}')
    return go, reason


def _word(says: bool | None) -> str:
    return "nothing" if says is None else "yes" if says else "no"
