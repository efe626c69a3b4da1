"""From the providers' transcripts to the client's: one clock, no text twice, none empty. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gateway.conversations.stt import protocol
from gateway.conversations.stt.connection import RecognizerConnection
from gateway.conversations.stt.protocol import OutgoingTranscript
from gateway.conversations.stt.replay_buffer import ReplayBuffer
from gateway.upstreams.stt import Transcript

TRUSTED_S: Final = 4.0
"""Speech without text after which an empty final is not believed: the provider may be deaf, so
the audio is kept for the next one."""

REPEATED_S_MAX: Final = 0.02
"""How far the middle of a word may lie before the last final's end and still be a new word:
rounding of the providers' times."""


OVERLAP_S: Final = 0.3
"""Audio of told words that a replay begins with, so that the next word is whole."""


class TranscriptAssembler:
    """The open utterance as the client knows it, and how far finals have come.

    Methods that take what a provider said return the messages for the client, in order.
    """

    def __init__(self, buffer: ReplayBuffer, session_id: str) -> None:
        self._buffer = buffer
        self._session_id = session_id
        self.speaking = False  # the client knows that somebody speaks
        self.interim: OutgoingTranscript | None = None  # the last text of the open utterance
        self.final_until = 0.0  # seconds of the session that finals cover
        self._told_until = 0.0  # the same, of those that had text
        self.finals = 0  # that the client got
        self.told: OutgoingTranscript | None = None  # the last that the client got
        self._language: str | None = None
        self._began: float | None = None  # where the open utterance began, if known

    @property
    def is_open(self) -> bool:
        """Whether an utterance has text and no final."""
        return self.interim is not None

    def set_language(self, language: str | None) -> None:
        """The language of transcripts whose provider names none."""
        self._language = language

    def speech_started(self, connection: RecognizerConnection, at: float | None) -> list[str]:
        """Somebody began to speak, at `at` of the connection's clock if that is known."""
        if at is not None and self.interim is None:
            self._began = max(self.final_until, connection.timeline.session_s(at))
        return self._start()

    def _start(self) -> list[str]:
        if self.speaking:
            return []
        self.speaking = True
        return [protocol.simple("start_of_speech", self._session_id)]

    def hypothesis(self, connection: RecognizerConnection, heard: Transcript) -> list[str]:
        """An interim."""
        said = self._said(connection, heard)
        if not said.text or (self.interim is not None and said.text == self.interim.text):
            return []
        self.interim = said
        self.speaking = True  # the client derives it
        return [self._message("interim_transcript", said)]

    def eager(self, connection: RecognizerConnection, heard: Transcript) -> list[str]:
        """A preflight; the clients drop one before speech was signalled."""
        said = self._said(connection, heard)
        if not said.text:
            return []
        started = self._start()
        self.interim = said
        return [*started, self._message("preflight_transcript", said)]

    def resumed(self) -> list[str]:
        """The turn goes on: an interim makes the client drop the reply that it began early."""
        return [self._message("interim_transcript", self.interim)] if self.interim else []

    def final(self, connection: RecognizerConnection, heard: Transcript) -> list[str]:
        """A final, which ends the open utterance. With empty text it says that nothing was said:
        of the silence before words that another connection has told, that ends nothing."""
        said = self._said(connection, heard)
        covered = self._covered(connection, heard, said)
        before = self.interim is not None and not said.text and covered <= self.interim.start
        if not said.text:
            if connection.activity.untold_s > TRUSTED_S:
                covered = self.final_until
            else:  # a sound that goes on may be the beginning of a word: it stays
                rate = self._buffer.rate
                covered = min(covered, self._buffer.onset_before(round(covered * rate)) / rate)
        self.final_until = max(self.final_until, covered)
        self._buffer.forget(self.final_until)
        if not before:
            self._close()
        if not said.text:
            return []
        self._told_until = self.final_until
        self.finals += 1
        return [self._message("final_transcript", said)]

    def flushed(self, sample: int) -> None:
        """All up to this sample of the session has its final: where finals have no times, they may
        seem to cover less, if nobody paused before the flush."""
        self.final_until = max(self.final_until, sample / self._buffer.rate)
        self._buffer.forget(self.final_until)

    def settle(self) -> list[str]:
        """No final will come: the last interim is passed on as one."""
        said = self.interim
        if said is None:
            return []
        self.final_until = self._told_until = max(self.final_until, said.end)
        self._buffer.forget(self.final_until)
        self._close()
        self.finals += 1
        return [self._message("final_transcript", said)]

    @property
    def told_until(self) -> float | None:
        """Where the words end that the client knows from interims, without the latest, which may
        change most; seconds of the session. None: there are too few, or without times."""
        if self.interim is None or len(self.interim.words) < 2:
            return None
        until = self.interim.words[-2][2]
        return until if until > self.final_until else None

    def settle_told(self) -> list[str]:
        """The words up to `told_until` are passed on as a final: a slow replay that began before
        them would hold the caller for as long as they took. The last one stays open: it is told at
        the end if nobody hears it again."""
        said, until = self.interim, self.told_until
        if said is None or until is None:
            return []
        told, last = _part(said, said.words[:-1]), _part(said, said.words[-1:])
        self.final_until = self._told_until = until
        self._buffer.forget(until - OVERLAP_S)
        self._close()
        self.finals += 1
        self.interim = last
        self.speaking = True  # the client derives it
        return [
            self._message("final_transcript", told),
            self._message("interim_transcript", last),
        ]

    def discard(self) -> None:
        """The open utterance ended without a final."""
        self._close()

    def _close(self) -> None:
        self.speaking = False
        self.interim = None
        self._began = None

    def _message(self, kind: str, said: OutgoingTranscript) -> str:
        self.told = said
        return protocol.transcript(kind, said, self._session_id)

    def _said(self, connection: RecognizerConnection, heard: Transcript) -> OutgoingTranscript:
        on_session = connection.timeline.session_s
        text = heard.text.strip()
        words = tuple(
            (word.text, on_session(word.start), on_session(word.end), word.confidence, word.speaker)
            for word in heard.words
        )
        if words and connection.number > 1:
            # a replay begins a little before the last final's end: words from there were told
            fresh = tuple(
                word
                for word in words
                if (word[1] + word[2]) / 2 >= self._told_until - REPEATED_S_MAX
            )
            if len(fresh) < len(words):
                words = fresh
                text = " ".join(word[0] for word in fresh)
        if words:
            start, end = words[0][1], max(words[0][1], words[-1][2])
        else:
            start, end = self._span(connection, heard)
        return OutgoingTranscript(
            text=text,
            start=start,
            end=end,
            language=heard.language or self._language,
            confidence=heard.confidence,
            words=words,
            speaker=heard.speaker,
            request_id=heard.request_id or self._session_id,
            extra=heard.extra,
        )

    def _span(self, connection: RecognizerConnection, heard: Transcript) -> tuple[float, float]:
        """Where a transcript without words begins and ends."""
        on_session = connection.timeline.session_s
        sent = connection.heard_until / self._buffer.rate
        if heard.start is not None and heard.end is not None:
            start = on_session(heard.start)
            return start, max(start, on_session(heard.end))
        if heard.start is not None:
            self._began = on_session(heard.start)
        speech = None
        if self._began is None or heard.end is None:
            speech = self._buffer.speech()
        if self._began is None:
            self._began = speech[0] / self._buffer.rate if speech else self.final_until
        start = min(max(self._began, self.final_until), sent)
        if heard.end is not None:
            end = on_session(heard.end)
        else:
            end = min(speech[1] / self._buffer.rate, sent) if speech else sent
        return start, max(start, end)

    def _covered(
        self, connection: RecognizerConnection, heard: Transcript, said: OutgoingTranscript
    ) -> float:
        """Up to where this final covers the session's audio, in seconds."""
        sent = connection.sent_s
        if heard.end is not None:
            return min(connection.timeline.session_s(heard.end), sent)
        if said.words:
            return min(said.end, sent)
        return self._buffer.pause_before(connection.heard_until) / self._buffer.rate


def _part(
    said: OutgoingTranscript, words: tuple[tuple[str, float, float, float, str | None], ...]
) -> OutgoingTranscript:
    """Some of its words, which follow each other."""
    return replace(
        said,
        text=" ".join(word[0] for word in words),
        words=words,
        start=words[0][1],
        end=words[-1][2],
    )
