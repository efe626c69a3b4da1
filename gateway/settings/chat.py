"""What an operator may set for /chat/completions."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.section import Section


class HedgeConfig(Section):
    """A second deployment is asked while the first is silent; the first to speak wins, the other
    is let go (its provider may bill what it had begun)."""

    enabled: bool = False
    """True switches it on."""
    after_s: float | None = Field(None, gt=0)
    """Silence after which the next deployment is asked. Default: what 95 % of this deployment's
    recent answers stayed under, once 20 are known; until then nobody is asked twice."""
    at_least_s: float = Field(0.3, gt=0)
    """Never sooner than this, however fast the deployment usually is."""
    extra_max: int = Field(1, ge=1, le=3)
    """Deployments asked in addition, for one request."""
    share_max: float = Field(0.25, gt=0, le=1)
    """Hedges per request on average; when everything is slow, asking twice makes it slower."""


class ResponsesConfig(Section):
    """Answers of `/responses` that are kept for `previous_response_id` and GET /responses/{id}: in
    memory, for each API key apart, unless a client says `store: false`."""

    per_key: int = Field(1000, ge=0, le=1_000_000)
    """Of one key, the oldest goes first; 0 keeps none."""
    bytes_max: int = Field(64 << 20, ge=0)
    """Of all keys together."""
    age_s: float = Field(3600.0, gt=0)
    """So long is one kept."""


class ChatConfig(Section):
    """Time-outs and tail of `/chat/completions`."""

    connect_timeout_s: float = Field(3.0, gt=0)
    """To open a connection to an upstream."""
    first_token_timeout_s: float = Field(8.0, gt=0)
    """From the request to the first content of one upstream; then the next is tried."""
    idle_timeout_s: float = Field(10.0, gt=0)
    """Between two pieces of an answer that has begun."""
    total_timeout_s: float = Field(300.0, gt=0)
    """The whole answer, all upstreams together; a non-streaming answer has only this one."""
    keepalive_s: float = Field(3.0, gt=0, le=9)
    """A comment is sent when nothing else was for so long: the clients give up after 10 s."""
    rounds: int = Field(5, ge=1, le=10)
    """How often the deployments of a model, where there are several, are gone through: those that
    failed for a passing reason are asked again after a pause of 0.25 s, then 0.5 s, 1 s, 2 s."""
    queue_timeout_s: float = Field(4.0, gt=0)
    """How long a request waits for a place at a deployment with limits."""
    retry_content_policy: bool = False
    """True asks the next deployment when one refuses a request by its content policy."""
    decision_model: str | None = None
    """Chat model that answers /decisions in place of models that serve nothing else, and of those
    that are not served here. It should be quick and tell log-probabilities."""
    hedge: HedgeConfig = HedgeConfig()
    responses: ResponsesConfig = ResponsesConfig()
