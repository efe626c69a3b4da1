"""The adapters of all providers, each made once. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from gateway.upstreams.avatar import AvatarUpstream
from gateway.upstreams.chat import ChatUpstream
from gateway.upstreams.provider import Account, Modality, find
from gateway.upstreams.realtime import RealtimeUpstream
from gateway.upstreams.stt import SttUpstream
from gateway.upstreams.tts import TtsUpstream


class Adapters:
    """By modality and the name of the provider.

    What an adapter knows and what is open through it (sockets, processes) belongs to it. So, when
    the configuration changes, a provider whose settings did not change keeps its adapters: `before`
    are those that served until now.
    """

    def __init__(self, accounts: Mapping[str, Account], before: Adapters | None = None) -> None:
        self.accounts: Final = accounts
        self.unchanged: Final = frozenset(
            name
            for name, account in accounts.items()
            if before is not None and before.accounts.get(name) == account
        )
        """Providers that were there before, with the same settings."""
        self._all: dict[Modality, dict[str, Any]] = {
            modality: {} for modality in get_args(Modality)
        }
        for name, account in accounts.items():
            for modality, offer in find(account.type).offers.items():
                self._all[modality][name] = (
                    before._all[modality][name]
                    if before is not None and name in self.unchanged
                    else offer.adapter(account)
                )

    @property
    def chat(self) -> Mapping[str, ChatUpstream]:
        return self._all["chat"]

    @property
    def stt(self) -> Mapping[str, SttUpstream]:
        return self._all["stt"]

    @property
    def tts(self) -> Mapping[str, TtsUpstream]:
        return self._all["tts"]

    @property
    def realtime(self) -> Mapping[str, RealtimeUpstream]:
        return self._all["realtime"]

    @property
    def duplex(self) -> Mapping[str, RealtimeUpstream]:
        return self._all["duplex"]

    @property
    def avatar(self) -> Mapping[str, AvatarUpstream]:
        return self._all["avatar"]

    def only_here(self, modality: Modality, others: Iterable[Adapters]) -> list[Any]:
        """The adapters that none of `others` has."""
        kept = {id(adapter) for one in others for adapter in one._all[modality].values()}
        return [one for one in self._all[modality].values() if id(one) not in kept]
