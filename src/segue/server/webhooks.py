"""Webhooks: programs that must say yes to a release before its nodes go, asked over HTTPS and remembered for a while.

Decisions are made within a transaction, which waits for nobody: whoever looks for an answer gets what is known, and
what is not known, or not for much longer, is asked meanwhile.
"""

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
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
#: An answer that is so many times too old is forgotten: nobody has wanted to know it since.
_FORGET_AFTER = 100
#: As much of its reason is kept.
_REASON_CHARS = 300

_Question: TypeAlias = tuple[SystemName, str, Version]


@dataclass(frozen=True, slots=True)
class _Known:
    """An answer, and when it came; in steady seconds, too: the clock may be set, and a yes must not hold the longer."""

    answer: Answer
    at: datetime
    at_s: float


class Webhooks:
    """What webhooks say, as far as it is known. Any thread may ask.

    Args:
        clock: says since when an answer is given.
        keep_s: seconds for which an answer holds.
        timeout_s: seconds that a webhook has to answer.
        steady: seconds that pass whatever is done to the clock: by them answers grow old.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        keep_s: float = KEEP_S,
        timeout_s: float = TIMEOUT_S,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._keep_s, self._timeout_s = clock, keep_s, timeout_s
        self._steady = steady
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
        question = (system, url, version)
        with self._lock:
            known = self._known.get(question)
            age_s = self._steady() - known.at_s if known else math.inf
            if age_s >= self._keep_s / 2 and question not in self._asking:
                self._asking.add(question)
                self._pool.submit(self._ask, question)
        if known is None or age_s < self._keep_s:
            return known.answer if known else None
        return Answer(says=None, since=known.at, text="its last answer is too old, and it is asked again")

    def close(self) -> None:
        """Ask no more; what is being asked ends within its time."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, question: _Question) -> None:
        try:
            self._note(question, *self._told(question))
        except PeerError as error:  # the database's clock: who asks next has it asked again
            logger.warning("what webhook %s says cannot be dated: %s", question[1], error)
        finally:
            with self._lock:
                self._asking.discard(question)

    def _told(self, question: _Question) -> tuple[bool | None, str]:
        """Ask, and return what the webhook says and why, None if it says nothing."""
        system, url, version = question
        try:
            return self._answer_of(url, {"system": system, "version": version})
        except PeerError as error:
            return None, str(error)
        except Exception as error:  # whatever it is, somebody waits for a reason, and this thread tells nobody
            logger.exception("webhook %s could not be asked", url)
            return None, f"{type(error).__name__}: {error}"

    def _note(self, question: _Question, says: bool | None, text: str) -> None:
        """Keep what a webhook says, and no more what nobody wants to know any more."""
        system, url, version = question
        at, at_s = self._clock.now(), self._steady()
        answer = Answer(says=says, since=at, text=" ".join(text.split())[:_REASON_CHARS])
        with self._lock:
            gone_s = at_s - _FORGET_AFTER * self._keep_s
            self._known = {key: known for key, known in self._known.items() if known.at_s > gone_s or key == question}
            before = self._known.get(question)
            if before and before.answer.says is says:
                answer = replace(answer, since=before.answer.since)
            else:
                logger.info(
                    "webhook %s says %s to release %s of %s: %s", url, _word(says), version, system, answer.text
                )
            self._known[question] = _Known(answer, at, at_s)

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

    def __repr__(self) -> str:
        return f"Webhooks({len(self._known)} known, {len(self._asking)} asked)"


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
