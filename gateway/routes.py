"""Model name + configuration -> plan: which provider serves what, in which order."""

from __future__ import annotations

import difflib

from gateway import provider as vendors
from gateway.config import Config
from gateway.errors import Failure, Kind
from gateway.plan import Attempt, Plan, only
from gateway.provider import Conversation


class Routes:
    """Plans for the models of one conversation, made once for each name.

    A name of `models:` in the configuration has the deployments given there. Another name goes to
    every provider whose catalogue has it, in the configuration's order; else to the provider
    whose configured name it starts with.
    """

    def __init__(self, config: Config, conversation: Conversation) -> None:
        self._accounts = {
            name: account
            for name, account in config.accounts().items()
            if vendors.find(account.type).serves(conversation)
        }
        self._plans: dict[str, Plan] = {}
        for model, deployments in config.models.items():
            plan = tuple(
                Attempt(d.provider, d.model, d.options)
                for d in deployments
                if d.provider in self._accounts
            )
            if plan:
                self._plans[model] = plan
        for name, account in self._accounts.items():
            for model, upstream_model in vendors.find(account.type).models(conversation).items():
                if model not in config.models:
                    attempt = Attempt(name, upstream_model)
                    self._plans[model] = (*self._plans.get(model, ()), attempt)
            for model in account.settings.models:
                full_name = f"{name}/{model}"
                if full_name not in config.models:
                    self._plans.setdefault(full_name, (Attempt(name, model),))

    def names(self) -> dict[str, Plan]:
        """Every model known to be servable, with its plan, sorted by name."""
        return dict(sorted(self._plans.items()))

    def provider_label(self, name: str | None) -> str:
        """`name` as a metric label: a configured provider, or "none"."""
        return name if name in self._accounts else "none"

    def model_label(self, name: str) -> str:
        """`name` as a metric label: a known model, or "other"."""
        return name if name in self._plans else "other"

    def plan(self, model: str, pinned_provider: str | None = None) -> Plan | Failure:
        """The attempts for `model`, or why there are none."""
        plan = self._plans.get(model)
        if plan is None:
            plan = self._by_prefix(model)
        if plan is None:
            close = difflib.get_close_matches(model, self._plans, n=1, cutoff=0.7)
            hint = f"; did you mean {close[0]!r}?" if close else "; GET /models lists what is"
            return Failure(
                Kind.NOT_FOUND, f"the model {model[:128]!r} is not served here{hint}", param="model"
            )
        if pinned_provider is not None:
            plan = only(pinned_provider, plan)
            if not plan:
                return Failure(
                    Kind.BAD_REQUEST,
                    f"X-LiveKit-Inference-Provider: {pinned_provider[:64]!r} "
                    f"does not serve {model[:128]!r}",
                    param="X-LiveKit-Inference-Provider",
                )
        return plan

    def _by_prefix(self, model: str) -> Plan | None:
        name, slash, rest = model.partition("/")
        if slash and rest and name in self._accounts:
            return (Attempt(name, rest),)
        return None
