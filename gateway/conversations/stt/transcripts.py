"""From what recognisers say to what the client is told: one clock, nothing twice, nothing empty."""

from __future__ import annotations

from typing import Final

from gateway.conversations.stt import protocol
from gateway.conversations.stt.connection import RecognizerConnection
from gateway.conversations.stt.protocol import OutgoingTranscript
from gateway.conversations.stt.replay_buffer import ReplayBuffer
from gateway.upstreams.stt import Transcript

TRUSTED_S: Final = 4.0
"""A provider that found no word in so much speech may be deaf: its empty finals are not believed,
the audio is kept for the next one."""

_TOLERANCE_S: Final = 0.02


class TranscriptAssembler:
    """What the client knows of the open utterance, and how far finals have come.

    Each method returns the messages to send, in order.
    """

    def __init__(self, kept: ReplayBuffer, session_id: str) -> None:
        self._kept = kept
        self._session_id = session_id
        self.language: str | None = None
        self.speaking = False  # the client has been told that somebody speaks
        self.interim: OutgoingTranscript | None = None  # the last text of the open utterance
        self.final_until = 0.0  # seconds of the session that finals cover
        self.finals = 0
        self._began: float | None = None  # where the open utterance began, if known

    def speech_started(self, line: RecognizerConnection, at: float | None) -> list[str]:
        if at is not None and self.interim is None:
            self._began = max(self.final_until, line.timeline.session_s(at))
        return self._start()

    def _start(self) -> list[str]:
        if self.speaking:
            return []
        self.speaking = True
        return [protocol.simple("start_of_speech", self._session_id)]

    def hypothesis(self, line: RecognizerConnection, heard: Transcript) -> list[str]:
        """An interim."""
        said = self._said(line, heard)
        if not said.text or (self.interim is not None and said.text == self.interim.text):
            return []
        self.interim = said
        self.speaking = True  # the client derives it
        return [self._message("interim_transcript", said)]

    def eager(self, line: RecognizerConnection, heard: Transcript) -> list[str]:
        """A preflight; the clients drop one before speech was signalled."""
        said = self._said(line, heard)
        if not said.text:
            return []
        started = self._start()
        self.interim = said
        return [*started, self._message("preflight_transcript", said)]

    def resumed(self) -> list[str]:
        """The eager end was none: an interim makes the client drop its early reply."""
        return [self._message("interim_transcript", self.interim)] if self.interim else []

    def final(self, line: RecognizerConnection, heard: Transcript) -> list[str]:
        said = self._said(line, heard)
        covered = self._covered(line, heard, said)
        if not said.text:
            if line.loud_untold_s > TRUSTED_S:
                covered = self.final_until
            else:  # nothing was said, but somebody may just have begun to speak
                rate = self._kept.rate
                covered = min(covered, self._kept.onset_before(round(covered * rate)) / rate)
        self.final_until = max(self.final_until, covered)
        self._kept.forget(self.final_until)
        self._close()
        if not said.text:
            return []
        self.finals += 1
        return [self._message("final_transcript", said)]

    def settle(self) -> list[str]:
        """No final will come: the last text of the open utterance has to do for it."""
        said = self.interim
        if said is None:
            return []
        self.final_until = max(self.final_until, said.end)
        self._kept.forget(self.final_until)
        self._close()
        self.finals += 1
        return [self._message("final_transcript", said)]

    def nothing(self) -> None:
        """The open utterance came to nothing."""
        self._close()

    def _close(self) -> None:
        self.speaking = False
        self.interim = None
        self._began = None

    def _message(self, kind: str, said: OutgoingTranscript) -> str:
        return protocol.transcript(kind, said, self._session_id)

    def _said(self, line: RecognizerConnection, heard: Transcript) -> OutgoingTranscript:
        on_session = line.timeline.session_s
        text = heard.text.strip()
        words = tuple(
            (word.text, on_session(word.start), on_session(word.end), word.confidence, word.speaker)
            for word in heard.words
        )
        if words and line.number > 1:
            # a replay begins at a quiet place near the last final: what lies before was told
            fresh = tuple(
                word for word in words if (word[1] + word[2]) / 2 >= self.final_until - _TOLERANCE_S
            )
            if len(fresh) < len(words):
                words = fresh
                text = " ".join(word[0] for word in fresh)
        if words:
            start, end = words[0][1], max(words[0][1], words[-1][2])
        else:
            start, end = self._span(line, heard)
        return OutgoingTranscript(
            text=text,
            start=start,
            end=end,
            language=heard.language or self.language,
            confidence=heard.confidence,
            words=words,
            speaker=heard.speaker,
            request_id=heard.request_id or self._session_id,
            extra=heard.extra,
        )

    def _span(self, line: RecognizerConnection, heard: Transcript) -> tuple[float, float]:
        """Where a transcript without words begins and ends."""
        on_session = line.timeline.session_s
        sent = line.sent_s()
        if heard.start is not None and heard.end is not None:
            start = on_session(heard.start)
            return start, max(start, on_session(heard.end))
        if heard.start is not None:
            self._began = on_session(heard.start)
        speech = None
        if self._began is None or heard.end is None:
            speech = self._kept.speech()
        if self._began is None:
            self._began = speech[0] / self._kept.rate if speech else self.final_until
        start = min(max(self._began, self.final_until), sent)
        if heard.end is not None:
            end = on_session(heard.end)
        else:
            end = min(speech[1] / self._kept.rate, sent) if speech else sent
        return start, max(start, end)

    def _covered(
        self, line: RecognizerConnection, heard: Transcript, said: OutgoingTranscript
    ) -> float:
        """How far the audio is done with after this final."""
        sent = line.sent_s()
        if heard.end is not None:
            return min(line.timeline.session_s(heard.end), sent)
        if said.words:
            return min(said.end, sent)
        return self._kept.pause_before(line.sent_until) / self._kept.rate
