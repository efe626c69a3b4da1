"""Everything that can be wrong in a configuration is told: where, what, what was expected."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import pytest
import yaml
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gateway.cli.main import main
from gateway.config import CONFIG_BYTES_MAX, Config, ConfigError, load, load_with_warnings
from gateway.settings.section import Section
from gateway.upstreams import provider as vendors

SECRET = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t"
PYDANTIC = (
    "nput should", "validation error", "lax-or-strict", "function-", "valid string",
    "valid integer", "valid dictionary", "instance of", "unable to parse", "Extra inputs",
    "Field required", "type=", "Traceback", "[key]",
)  # fmt: skip
"""Words of pydantic's, which are nobody's business."""


def mistakes(tmp_path: Path, text: str | bytes, environ: dict[str, str] | None = None) -> list[str]:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as raised:
        load(path, environ or {})
    told = raised.value.mistakes
    assert told
    for line in told:
        assert SECRET not in line
        assert not [word for word in PYDANTIC if word in line], line
        assert "\n" not in line
    return told


RACK = "providers: {rack: {type: openai-compatible, base_url: 'http://rack/v1'%s}}\n"

WRONG: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    # -- the file as such
    "a list": ("- a\n- b", ("expected a mapping of sections at the top",)),
    "a text": ("hello", ("expected a mapping of sections at the top",)),
    "open bracket": ("a: {b: [", ("not valid YAML in line 1",)),
    "a tab": ("server:\n\tport: 1", ("not valid YAML in line 2",)),
    "two documents": ("log: {}\n---\nlog: {}", ("a second document",)),
    "key twice": ("log: {}\nserver: {}\nlog: {}", ("line 3", "the key 'log' stands twice")),
    "key twice deep": ("server:\n  port: 1\n  port: 2", ("line 3", "'port' stands twice")),
    "merge twice": ("a: &a {}\nb: {<<: *a, <<: *a}", ("line 2", "'<<' stands twice")),
    "merge of text": ("server: {<<: port}", ("line 1", "`<<` takes a mapping")),
    "undefined alias": (f"keys: {{A: *{SECRET}}}", ("an alias (*name) without its anchor",)),
    "anchor in itself": ("a: &a [*a]", ("an anchor that contains itself",)),
    "merge of itself": ("a: &a\n  <<: *a", ("an anchor that contains itself",)),
    "a tag": ("server: !!python/object:os.system {}", ("line 1", "a tag (!name)")),
    "a secret as a tag": (f"keys:\n  A: !{SECRET}", ("line 2", "needs quotes")),
    "a mapping as a key": ("? {a: 1}\n: 2", ("expected a name before the colon",)),
    "no key": (": 2", ("not valid YAML in line 1",)),
    "deep": ("[" * 3000, ("nested too deeply",)),
    "deep mappings": ("\n".join(" " * i + "a:" for i in range(60)), ("nested too deeply",)),
    "laughs": (
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{y}: &{y} [{','.join([f'*{x}'] * 10)}]\n"
            for x, y in zip("abcdef", "bcdefg", strict=True)
        ),
        ("more than 100000 values",),
    ),
    "control character": ("server:\n  host: \x07", ("line 2", "a character that YAML")),
    # -- keys and types
    "unknown section": ("servr: {}", ("servr: unknown key; did you mean 'server'? (line 1)",)),
    "unknown option": (
        "server:\n  prot: 1",
        ("server.prot: unknown key; did you mean 'port'?", "(line 2)"),
    ),
    "unknown and far": ("server: {zzz: 1}", ("server.zzz: unknown key (line 1)",)),
    "unknown in a list": (
        "models: {m: [{provder: x, model: y}]}",
        ("models.m.0.provder", "'provider'"),
    ),
    "unknown of a provider": (RACK % ", api_kee: x", ("providers.rack.api_kee", "'api_key'")),
    "number for a section": (
        "limits: 3",
        ("limits: expected a mapping of options (sessions", "not 3"),
    ),
    "list for a section": ("limits: [3]", ("limits: expected a mapping of options", "not a list")),
    "text for a section": ("chat: fast", ("chat: expected a mapping of options", "not text")),
    "text for a number": (
        "server: {port: many}",
        ("server.port: expected a whole number from 0 to 65535, not 'many'",),
    ),
    "too large": ("server: {port: 70000}", ("from 0 to 65535, not 70000",)),
    "below": ("server: {port: -1}", ("from 0 to 65535, not -1",)),
    "a fraction": ("server: {port: 80.5}", ("a whole number from 0 to 65535, not 80.5",)),
    "yes for a number": ("server: {port: yes}", ("a whole number from 0 to 65535, not true",)),
    "nothing for a number": ("server: {port: }", ("from 0 to 65535, not nothing",)),
    "list for a number": ("server: {port: [1]}", ("from 0 to 65535, not a list",)),
    "infinite": ("usage: {flush_s: .inf}", ("usage.flush_s: expected a number", "not inf")),
    "infinite without bound": (
        "chat: {total_timeout_s: .inf}",
        ("chat.total_timeout_s: expected a number",),
    ),
    "no number": ("usage: {flush_s: .nan}", ("usage.flush_s: expected a number", "not nan")),
    "text for yes": (
        "usage: {enabled: maybe}",
        ("usage.enabled: expected true or false, not 'maybe'",),
    ),
    "number for yes": ("usage: {enabled: 7}", ("expected true or false, not 7",)),
    "number for text": (
        "eot: {text: {revision: 12345}}",
        ("eot.text.revision: expected text, not 12345: put it in quotes",),
    ),
    "off for text": (
        "models: {m: [{provider: off, model: x}]}",
        ("models.m.0.provider", "not false: put it in quotes"),
    ),
    "not a choice": (
        "log: {level: debgu}",
        ("one of debug, info, warning, error, not 'debgu'; did you mean 'debug'?",),
    ),
    "not a list": ("stt: {fallback: deepgram/nova-3}", ("stt.fallback: expected a list",)),
    "number in a list": ("stt: {fallback: [3]}", ("stt.fallback.0: expected text, not 3",)),
    "a network": (
        "eot: {anonymous_networks: [10.0.0.1/8]}",
        ("eot.anonymous_networks.0: expected a network such as", "not '10.0.0.1/8'"),
    ),
    "a network of words": (
        "eot: {anonymous_networks: [home]}",
        ("eot.anonymous_networks.0: expected a network",),
    ),
    "a missing option": (
        "models: {m: [{provider: x}]}",
        ("models.m.0.model: missing: expected text",),
    ),
    "an ability": (
        "models: {m: [{provider: x, model: y, abilities: [fly]}]}",
        ("models.m.0.abilities.0: expected one of tools",),
    ),
    "prefix": ("quota: {prefix: 'a b'}", ("quota.prefix: expected up to 64 letters, digits",)),
    "a price": (
        "prices: {'*': {input: -1}}",
        ("prices.*.input: expected a number, at least 0, not -1",),
    ),
    "price of text": ("prices: {'*': cheap}", ("prices.*: expected a mapping of options",)),
    # -- keys
    "short secret": (
        "keys: {APIx: short}",
        ("keys.APIx: the secret has fewer than 32 characters",),
    ),
    "no secret": ("keys: {APIx: }", ("keys.APIx: expected text, not nothing",)),
    "empty secret": ("keys: {APIx: ''}", ("keys: an API key and its secret must not be empty",)),
    "secret as a list": (f"keys: {{APIx: [{SECRET}]}}", ("keys.APIx: expected text, not a list",)),
    "secret alone": (f"keys: {SECRET}", ("keys: expected a mapping of names",)),
    "secret as a number": (
        "keys: {APIx: 12345678901234567890123456789012345}",
        ("not a number: put it in quotes",),
    ),
    "swapped": (
        f"keys: {{{SECRET}: APIx}}",
        ("keys: a secret has fewer characters than its key; are they swapped?",),
    ),
    # -- variables
    "unset": (
        "log: {level: '${LEVEL}'}",
        ("log.level: the environment variable LEVEL is not set",),
    ),
    "empty": (
        "log: {level: '${EMPTY}'}",
        ("log.level: the environment variable EMPTY is set, but empty",),
    ),
    "unclosed": ("log: {level: '${LEVEL'}", ("log.level: `${` without its `}`",)),
    "nested": ("log: {level: '${A:-${B}}'}", ("log.level: `${` without its `}`",)),
    "no name": ("log: {level: '${}'}", ("expected ${NAME}, ${NAME:-default} or ${file:PATH}",)),
    "bad name": ("log: {level: '${A-B}'}", ("expected ${NAME}",)),
    "value of a variable": (
        "server: {port: '${HOME_PORT}'}",
        ("server.port: expected a whole number from 0 to 65535, not the value of ${HOME_PORT}",),
    ),
    "no file": (
        "keys: {A: '${file:/nowhere/x}'}",
        ("keys.A: the file /nowhere/x cannot be read: no such file",),
    ),
    "no path": ("keys: {A: '${file:}'}", ("keys.A: expected a path in ${file:PATH}",)),
    "folder": (
        "keys: {A: '${file:/tmp}'}",
        ("keys.A: the file /tmp cannot be read: is a directory",),
    ),
    "endless file": (
        "keys: {A: '${file:/dev/zero}'}",
        ("keys.A: the file /dev/zero is larger than 65536 bytes",),
    ),
    "empty file": ("keys: {A: '${file:/dev/null}'}", ("keys.A: the file /dev/null is empty",)),
    # -- providers
    "providers as a list": (
        "providers: [openai]",
        ("providers: expected a mapping of names to settings",),
    ),
    "provider as a number": (
        "providers: {openai: 3}",
        ("providers.openai: expected a mapping of settings",),
    ),
    "unknown vendor": (
        "providers: {opnai: {api_key: x}}",
        ("providers.opnai.type: no provider type 'opnai'; did you mean 'openai'?",),
    ),
    "unknown type": (
        "providers: {mine: {type: llama}}",
        ("providers.mine.type: no provider type 'llama'",),
    ),
    "no api key": (
        "providers: {openai: {}}",
        ("providers.openai.api_key: missing", "OPENAI_API_KEY, which is not set", "(line 1)"),
    ),
    "no address": (
        "providers: {openai-compatible: {}}",
        ("providers.openai-compatible.base_url: missing",),
    ),
    "scheme": (
        RACK.replace("http:", "ftp:") % "",
        ("providers.rack.base_url: expected a URL that starts with http://",),
    ),
    "no scheme": (RACK.replace("http://", "") % "", ("expected a URL that starts with http://",)),
    "no host": (RACK.replace("rack/v1", "") % "", ("expected a host after http://",)),
    "port": (RACK.replace("rack/v1", "rack:99999/v1") % "", ("expected a port from 1 to 65535",)),
    "port of words": (
        RACK.replace("rack/v1", "rack:http/v1") % "",
        ("expected a port from 1 to 65535",),
    ),
    "port zero": (RACK.replace("rack/v1", "rack:0/v1") % "", ("expected a port from 1 to 65535",)),
    "a space": (RACK.replace("rack/v1", "rack :80") % "", ("without spaces or line breaks",)),
    "a query": (RACK.replace("rack/v1", "rack/v1?x=1") % "", ("expected a URL without ? and #",)),
    "brackets": (RACK.replace("rack/v1", "[::1/v1") % "", ("an IPv6 one in [brackets]",)),
    "header of lines": (
        RACK % ', headers: {X: "a\\nb"}',
        ("providers.rack.headers.X: expected one line",),
    ),
    "header's name": (
        RACK % ", headers: {'a b': c}",
        ("providers.rack.headers.a b: expected a header's name",),
    ),
    "key of lines": (
        f'providers: {{openai: {{api_key: "{SECRET}\\nx"}}}}',
        ("providers.openai.api_key: expected one line of plain characters",),
    ),
    "key in curly quotes": (
        f"providers: {{openai: {{api_key: “{SECRET}”}}}}",
        ("expected one line of plain characters",),
    ),
    "key as a number": (
        "providers: {openai: {api_key: 123456}}",
        ("providers.openai.api_key: expected text, not a number: put it in quotes",),
    ),
    # -- references
    "nobody's": (
        "models: {m: [{provider: nobody, model: y}]}",
        ("models.m.0.provider: no provider 'nobody' is configured",),
    ),
    "nobody's, close": (
        RACK % "" + "models: {m: [{provider: rakc, model: y}]}",
        ("did you mean 'rack'?",),
    ),
    "no deployment": ("models: {m: []}", ("models.m: expected at least one deployment",)),
    "alias to nothing": (
        RACK % ", models: [llama]" + "models: {fast: lama}",
        (
            "models.fast.0: nothing serves 'lama'",
            "'rack/llama'",
            "names its `provider`",
            "(line 2)",
        ),
    ),
    "forgot provider": (
        RACK % ", models: [qwen3]" + "models: {fast: [{model: qwen3}]}",
        ("models.fast.0: nothing serves 'qwen3'; did you mean 'rack/qwen3'?",),
    ),
    "circle": ("models: {a: b, b: a}", ("the alias leads back to 'a'",)),
    "star inside": (
        RACK % "" + "models: {'a*b': rack/x}",
        ("models.a*b: expected `*` at the end",),
    ),
    "star of nothing": (
        RACK % "" + "models: {a: [{provider: rack, model: '*'}]}",
        ("models.a.0.model", "the name has none"),
    ),
    "limits of all": (
        RACK % "" + "models: {'a/*': [{provider: rack, model: '*', concurrency: 1}]}",
        ("limits are for one model",),
    ),
    "stt fallback": (
        RACK % "" + "stt: {fallback: [nobody/nova]}",
        ("stt.fallback.0: nothing serves 'nobody/nova'",),
    ),
    "stt fallback chats": (
        RACK % "" + "models: {openai/gpt-5: rack/x}\nstt: {fallback: [openai/gpt-5]}\n",
        ("stt.fallback.0: the model 'openai/gpt-5' is for /chat/completions, not for /stt",),
    ),
    "stt auto": (
        RACK % "" + "stt: {auto: {en: [nova]}}",
        ("stt.auto.en.0: nothing serves 'nova'",),
    ),
    "language": (
        RACK % "" + "stt: {auto: {jp: [rack/whisper]}}",
        ("stt.auto.jp: expected a language code", "'ja'", "or default"),
    ),
    "language by name": (
        RACK % "" + "stt: {auto: {english: [rack/whisper]}}",
        ("stt.auto.english: expected a language code",),
    ),
    "threshold of a country": (
        "eot: {thresholds: {cz: 0.5}}",
        ("eot.thresholds.cz: expected a language code", "'cs'"),
    ),
    "default voice": (
        RACK % "" + "tts: {default_model: nobody/voice}",
        ("tts.default_model: nothing serves 'nobody/voice'",),
    ),
    "quota of a key": (
        f"keys: {{APIone: {SECRET}}}\nquota: {{keys: {{APIoen: {{credits: 1}}}}}}",
        ("quota.keys.APIoen: no such API key is configured; did you mean 'APIone'?",),
    ),
    "quota of a model": (
        RACK % ", models: [llama]" + "quota: {models: {rak/llama: {credits: 1}}}",
        ("quota.models.rak/llama: nothing serves 'rak/llama'; did you mean 'rack/llama'?",),
    ),
    "quota of a key's model": (
        RACK % "" + f"keys: {{A: {SECRET}}}\nquota: {{keys: {{A: {{models: {{x: {{}}}}}}}}}}",
        ("quota.keys.A.models.x: nothing serves 'x'",),
    ),
    "quota of a pattern": (
        RACK % "" + "quota: {models: {'rak/*': {credits: 1}}}",
        ("quota.models.rak/*: nothing serves 'rak/*'",),
    ),
    "price of nothing": (
        RACK % ", models: [llama]" + "prices: {rack/lama: {input: 1}, rakc/llama: {input: 1}}",
        ("prices.rakc/llama: nothing serves 'rakc/llama'; did you mean 'rack/llama'?",),
    ),
    "price star inside": (
        RACK % "" + "prices: {'ra*k': {input: 1}}",
        ("prices.ra*k: expected `*` at the end",),
    ),
    # -- stores
    "redis": (
        "quota: {redis_url: http://x}",
        ("quota.redis_url: expected a URL that starts with redis:// or rediss://",),
    ),
    "redis port": (
        "quota: {redis_url: 'redis://x:99999'}",
        ("quota.redis_url: expected a port from 1 to 65535",),
    ),
    "redis database": (
        "quota: {redis_url: 'redis://x/db'}",
        ("quota.redis_url: expected the number of a database",),
    ),
    "usage": ("usage: {url: mysql://x}", ("usage.url: expected sqlite:PATH or postgresql://",)),
    "usage path": ("usage: {url: 'sqlite:'}", ("usage.url: expected a path behind sqlite:",)),
    "usage port": (
        "usage: {url: 'postgresql://x:99999/db'}",
        ("usage.url: expected a port from 1 to 65535",),
    ),
    "a host that is none": ("server: {host: a..b}", ("server.host: expected an address or",)),
    "no host to listen on": (
        "server: {host: ''}",
        ("server.host: expected an address or a host name",),
    ),
}


ONE = f"keys: {{APIx: {SECRET}}}\n"
OPENAI = "providers: {openai: {api_key: %s}}"
NAMED = "providers: {'%s': {type: openai-compatible, base_url: 'http://x'}}"

# -- what people bring along: other formats, editors and shells, pages that they copy from
WRONG |= {
    "a shell's variables": ("LIVEKIT_API_KEY=x", ("expected a mapping of sections",)),
    "an ini file": ("[server]\nport = 1", ("line 2", "expected a mapping of sections")),
    "a directive": ("%foo", ("line 1", "expected a mapping of sections")),
    "a dotted name": ("server.port: 1", ("server.port: unknown key",)),
    "capitals": ("Server: {}", ("Server: unknown key; did you mean 'server'?",)),
    "a dash": ("server: {admin-port: 1}", ("did you mean 'admin_port'?",)),
    "a name with a space behind": ("'server ': {}", ("did you mean 'server'?",)),
    "utf-16": ("log: {}".encode("utf-16"), ("not UTF-8 in line 1",)),
    "a byte order mark inside": ("log: {}\n\ufeffserver: {}", ("did you mean 'server'? (line 2)",)),
    "a nul": ("log: {}\n\0", ("line 2", "a character that YAML does not allow")),
    "no colon": ("server:\n  port 8080", ("server: expected a mapping of options", "not text")),
    "indented wrongly": (
        "server:\n  port: 1\n host: x",
        ("line 3", "fits neither the lines above nor their indentation"),
    ),
    "indented too far": ("log: {}\n  server: {}", ("line 2", "neither the lines above")),
    "a colon too many": ("log: {level: a: b}", ("line 1", "text with `: ` that needs quotes")),
    "a colon in text": ("server:\n  host: a: b", ("line 2", "a colon that fits nowhere")),
    "a tab before a value": ("log:\n  level: \tinfo\tx:\t1", ("line 2", "a tab")),
    "an open quote": ("log: {level: 'info}", ("the file ends inside of quotes",)),
    "an open brace": ("log: {level: info\nserver: {}", ("a brace without its }",)),
    "an open list": ("stt: {fallback: [a\nlog: {}", ("a bracket without its ]",)),
    "an at sign": ("log: {level: @info}", ("line 1", "needs quotes")),
    "a backtick": ("log:\n  level: `info`", ("line 2", "needs quotes")),
    "a bar": ("log:\n  level: |info", ("line 2", "text that begins with | or > needs quotes")),
    "a lone star": ("server: {host: *}", ("line 1", "needs quotes")),
    "a name alone": ("log: {}\nserver", ("line 2", "a name without a colon behind it")),
    "a backslash": ('usage: {spill: "C:\\data"}', ("line 1", "a backslash inside of double")),
    "a bracket alone": ("stt: ]", ("line 1", "expected a value")),
    "a set": ("stt: {fallback: !!set {a, b}}", ("line 1", "a tag (!name)")),
    "binary": ("server: {host: !!binary aGk=}", ("line 1", "a tag (!name)")),
    "a block of text for a section": ("server: |\n  port: 1", ("expected a mapping", "not text")),
    "an octal": ("server: {port: 0o17}", ("from 0 to 65535, not '0o17'",)),
    "a time for a number": ("server: {port: 190:20:30}", ("not '190:20:30'",)),
    "a huge number": ("server: {port: " + "9" * 400 + "}", ("from 0 to 65535, not 999",)),
    "hours": ("server: {shutdown_grace_s: 5h}", ("expected a number from 0 to 18000.0, not '5h'",)),
    "bytes with a unit": ("limits: {chat_body_bytes: 16MB}", ("a whole number", "not '16MB'")),
    "days": ("usage: {keep_days: 90d}", ("usage.keep_days: expected a whole number", "not '90d'")),
    "a comma": ("prices: {'*': {input: '0,4'}}", ("prices.*.input: expected a number",)),
    "a currency sign": ("prices: {'*': {input: $1}}", ("prices.*.input: expected a number",)),
    "a percentage": ("bargein: {threshold: 50%}", ("less than 1, not '50%'",)),
    "a share as a percentage": ("quota: {warn_at: 80}", ("at most 1, not 80",)),
    "auto": ("server: {workers: auto}", ("a whole number from 1 to 64, not 'auto'",)),
    "a currency": ("usage: {currency: Euro}", ("three capital letters such as USD, not 'Euro'",)),
    "an offset for a zone": ("usage: {time_zone: '+01:00'}", ("expected a time zone such as",)),
    # addresses
    "host with a scheme": ("server: {host: 'http://0.0.0.0'}", ("expected an address or a host",)),
    "host with a port": ("server: {host: '127.0.0.1:80'}", ("expected an address or a host name",)),
    "host in brackets": ("server: {host: '[::1]'}", ("server.host: expected an address",)),
    "a network for a host": ("server: {host: 10.0.0.0/8}", ("expected an address or a host name",)),
    "a proxy by name": ("server: {trusted_proxies: [nginx]}", ("expected a network", "'nginx'")),
    "proxies as text": ("server: {trusted_proxies: 10.0.0.0/8}", ("expected a list", "not text")),
    "two schemes": (RACK.replace("http://", "https://http://") % "", ("URL with one scheme",)),
    "an endpoint": (
        RACK.replace("/v1", "/v1/chat/completions") % "",
        ("expected the address of the API, without /chat/completions behind it",),
    ),
    "backslashes": (RACK.replace("http://", "http:\\\\") % "", ("a URL that starts with",)),
    "dots for a host": (RACK.replace("rack/", "../") % "", ("expected a host name or an address",)),
    "redis without a host": ("quota: {redis_url: 'redis://'}", ("expected a host after redis://",)),
    "traces without a scheme": (
        "traces: {endpoint: 'x:4318'}",
        ("traces.endpoint: expected a URL",),
    ),
    "traces by grpc": ("traces: {endpoint: 'grpc://x:4317'}", ("expected a URL that starts with",)),
    # secrets
    "a shell's way": (OPENAI % "$OPENAI_API_KEY", ("its value is ${NAME}",)),
    "a batch file's way": (OPENAI % "'%KEY%'", ("api_key: the name of a variable stands there",)),
    "dots for a key": (OPENAI % "'...'", ("a placeholder stands there; put your own",)),
    "a placeholder in brackets": (OPENAI % "<your key>", ("a placeholder stands there",)),
    "bearer": (OPENAI % f"Bearer {SECRET}", ("without `Bearer` before it",)),
    "quotes inside": (OPENAI % f"'\"{SECRET}\"'", ("without quotes around it",)),
    "a secret by a shell's name": (
        "keys: {APIx: $LIVEKIT_API_SECRET_OF_THE_AGENTS_OF_MINE}",
        ("keys.APIx: the name of a variable stands there",),
    ),
    "a key with a space": (f"keys: {{' APIx': {SECRET}}}", ("expected API keys without spaces",)),
    "a secret with its line end": (
        f'keys: {{APIx: "{SECRET}\\n"}}',
        ("expected API secrets without spaces and line breaks",),
    ),
    "a page without a port": (
        "page: {token: '0123456789abcdef'}\nserver: {admin_port: null}",
        ("page.token: the page is on the operator's port",),
    ),
    # names
    "a provider with a slash": (NAMED % "a/b", ("expected a name without spaces, / : and *",)),
    "a provider with a colon": (NAMED % "a:b", ("providers.a:b: expected a name without",)),
    "a provider with a star": (NAMED % "*", ("providers.*: expected a name without",)),
    "a provider of two words": (NAMED % "a b", ("providers.a b: expected a name without",)),
    "the connection's header": (
        RACK % ", headers: {Host: x}",
        ("providers.rack.headers.Host: each connection sets it itself",),
    ),
    "a trace's header": (
        "traces: {endpoint: 'http://x/v1/traces', headers: {a b: c}}",
        ("traces.headers.a b: expected a header's name",),
    ),
    "a model without a name": (RACK % ", models: ['']", ("expected names of models, not ''",)),
    "every model": (RACK % ", models: ['*']", ("expected names of models, not '*'",)),
    "a way with tools": (
        "providers: {openai: {api_key: k, tools: {gpt: maybe}}}",
        ("expected one of chat, responses-for-effort", "not 'maybe'"),
    ),
    "a date for a version": (
        "providers: {azure-openai: {api_key: k, base_url: 'https://x', api_version: latest}}",
        ("expected a date such as 2024-10-21",),
    ),
    "a computer's number": (
        "providers: {local: {whisper_compute_type: int4}}",
        ("one of int8, int8_float16", "not 'int4'"),
    ),
    "a region as a number": (
        ONE + "residency: {keys: {APIx: 3}}",
        ("residency.keys.APIx: expected text or a list, each entry text, not 3",),
    ),
    "no region": (ONE + "residency: {keys: {APIx: []}}", ("expected text or a list",)),
    "nobody's region": (
        ONE + "residency: {keys: {APIx: mars}}",
        ("no provider says `region: mars`",),
    ),
    "no recogniser": (RACK % "" + "stt: {auto: {en: []}}", ("expected at least one model",)),
    "a fallback that chats": (
        RACK % ", models: [llama]" + "stt: {fallback: [rack/llama]}",
        ("the model 'rack/llama' is for /chat/completions, not for /stt",),
    ),
    "a decision by nobody": (
        ONE + "chat: {decision_model: nobody/x}",
        ("chat.decision_model: nothing serves 'nobody/x'",),
    ),
    "a key that is not eager": (
        ONE + "bargein: {eagerness_by_key: {APIy: 1}}",
        ("no such API key is configured; did you mean 'APIx'?",),
    ),
    "a tenant's key": (
        ONE + "quota: {tenants: {t: {keys: [APIy]}}}",
        ("quota.tenants.t.keys.0: no such API key", "'APIx'"),
    ),
}

WARNED: dict[str, tuple[str, str]] = {
    "everybody is a proxy": (
        "server: {trusted_proxies: [0.0.0.0/0]}",
        "server.trusted_proxies.0: 0.0.0.0/0 is everybody",
    ),
    "everybody is anonymous": (
        "eot: {anonymous_networks: ['::/0']}",
        "eot.anonymous_networks.0: ::/0 is everybody",
    ),
    "no grace": (
        "server: {drain_delay_s: 60, shutdown_grace_s: 10}",
        "server.drain_delay_s: 60 is more than server.shutdown_grace_s (10)",
    ),
    "twice": (
        RACK % ", models: [llama]" + "models: {m: [rack/llama, rack/llama]}",
        "models.m.1: stands twice",
    ),
    "a recogniser that chats": (
        "providers: {anthropic: {api_key: k}}\n"
        "models: {deepgram/nova-3: [{provider: anthropic, model: x}]}",
        "models.deepgram/nova-3.0.provider: 'deepgram/nova-3' is for /stt, which 'anthropic'",
    ),
    "nobody's tenant": ("quota: {tenants: {t: {}}}", "quota.tenants.t: has no `keys`"),
}
"""What is odd, and may be meant."""


def test_there_are_many() -> None:
    assert len(WRONG) >= 85 + 60


@pytest.mark.parametrize("name", WARNED)
def test_what_is_odd_is_told_and_accepted(tmp_path: Path, name: str) -> None:
    text, expected = WARNED[name]
    path = tmp_path / "gateway.yaml"
    path.write_text(ONE + text)

    (warning,) = load_with_warnings(path, {}).warnings

    assert expected in warning
    assert "(line " in warning


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_is_told_where_and_how(tmp_path: Path, name: str) -> None:
    text, expected = WRONG[name]
    told = mistakes(tmp_path, text, {"EMPTY": "", "HOME_PORT": SECRET})
    assert any(all(words in line for words in expected) for line in told), told


@pytest.mark.parametrize("name", WRONG)
def test_no_wrong_configuration_ends_a_command_with_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("LIVEKIT_API_KEY", raising=False)
    path = tmp_path / "gateway.yaml"
    text = WRONG[name][0]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SystemExit) as ended:
        main(["check", "--config", str(path)])
    assert ended.value.code == 2
    assert "the configuration has mistakes" in capsys.readouterr().err


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    for path, expected in (
        (Path("/dev/zero"), f"larger than {CONFIG_BYTES_MAX} bytes"),
        (tmp_path, "cannot be read: is a directory"),
        (tmp_path / "nowhere.yaml", "cannot be read: no such file"),
        (tmp_path / "nul\0.yaml", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read: file name too long"),
    ):
        with pytest.raises(ConfigError, match=expected):
            load(path, {})


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, "#" * (CONFIG_BYTES_MAX + 1))
    assert f"larger than {CONFIG_BYTES_MAX} bytes" in line


def test_a_file_in_another_encoding_is_refused_with_the_line(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, "log: {}\n# caf\xe9\n".encode("latin-1"))
    assert "not UTF-8 in line 2" in line


# -- mistakes of the environment


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"LIVEKIT_API_KEY": "APIx"}, "LIVEKIT_API_SECRET: is not set, and LIVEKIT_API_KEY is"),
        (
            {"LIVEKIT_API_KEY": "APIx", "LIVEKIT_API_SECRET": ""},
            "LIVEKIT_API_SECRET: is set, but empty, and LIVEKIT_API_KEY is",
        ),
        ({"LIVEKIT_API_SECRET": SECRET}, "LIVEKIT_API_KEY: is not set, and LIVEKIT_API_SECRET"),
        (
            {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "here"},
            "OPENAI_BASE_URL: expected a URL that starts with http://",
        ),
        ({"OPENAI_API_KEY": f"{SECRET}\nx"}, "OPENAI_API_KEY: expected one line"),
        ({"DEEPGRAM_API_KEY_FILE": "/nowhere"}, "DEEPGRAM_API_KEY_FILE: the file /nowhere cannot"),
        (
            {"OPENAI_API_KEY": "k", "OPENAI_API_KEY_FILE": "/nowhere"},
            "OPENAI_API_KEY_FILE: OPENAI_API_KEY is set too; expected one of the two",
        ),
        (
            {"LIVEKIT_API_KEY": "APIx", "LIVEKIT_API_SECRET_FILE": "/dev/null"},
            "LIVEKIT_API_SECRET_FILE: the file /dev/null is empty",
        ),
    ],
)
def test_a_mistake_of_the_environment_names_the_variable(
    environ: dict[str, str], expected: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(None, environ)
    assert any(line.startswith(expected) for line in raised.value.mistakes), raised.value.mistakes
    assert SECRET not in str(raised.value)


def test_a_wrong_variable_is_named_also_where_the_file_has_the_provider(tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://h:99999"}
    (line,) = mistakes(tmp_path, "providers: {openai: {models: [x]}}", environ)
    assert line.startswith("OPENAI_BASE_URL: expected a port")


# -- every option of every section, with every wrong kind of value


def options(
    section: type[Section], place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    for name, field in section.model_fields.items():
        inner = plain(field.annotation)
        if isinstance(inner, type) and issubclass(inner, Section):
            yield (*place, name), field
            yield from options(inner, (*place, name))
        elif name != "providers":
            yield (*place, name), field


def plain(annotation: Any) -> Any:
    """What an option takes, without "or none"."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not NoneType)
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def wrong_values(field: FieldInfo) -> Iterator[tuple[Any, str]]:
    """Values that the option must refuse, each with words of what it says it expects."""
    kind: Any = plain(field.annotation)
    value: Any
    least: Any
    most: Any
    metadata = [*field.metadata]
    for part in (field.annotation, *get_args(field.annotation)):
        if get_origin(part) is Annotated:
            told = get_args(part)[1]
            metadata += told.metadata if isinstance(told, FieldInfo) else [told]
    if isinstance(kind, type) and issubclass(kind, Section):
        for value in (3, "text", [1], True):
            yield value, "a mapping of options"
    elif get_origin(kind) is dict:
        for value in (3, "text", [1], True):
            yield value, "expected a mapping"
    elif get_origin(kind) in (list, tuple):
        for value in (3, {"a": 1}):
            yield value, "a list"
    elif get_origin(kind) is Literal:
        for value in (3, "nonsense", [1], True):
            yield value, f"one of {get_args(kind)[0]}"
    elif kind is bool:
        for value in (7, "maybe", [1], {"a": 1}):
            yield value, "true or false"
    elif kind in (int, float):
        words = "a whole number" if kind is int else "a number"
        for value in ("many", [1], {"a": 1}, True, float("inf"), float("nan")):
            yield value, words
        for bound in metadata:
            match bound:
                case annotated_types.Ge(least):
                    yield least - 1, str(least)  # type: ignore[operator]
                case annotated_types.Gt(more):
                    yield more, f"more than {more}"
                case annotated_types.Le(most):
                    yield most + 1, str(most)  # type: ignore[operator]
                case annotated_types.Lt(less):
                    yield less, f"less than {less}"
    elif kind in (str, SecretStr):
        for value in (3, [1], {"a": 1}, True):
            yield value, "text" if not metadata else "expected"
    elif kind is Path:
        for value in (3, [1], {"a": 1}):
            yield value, "a path"
    else:
        assert kind in (IPv4Network, IPv6Network), f"no wrong values are known for {kind}"


CASES = [
    (place, value, words)
    for place, field in options(Config)
    if place
    for value, words in wrong_values(field)
] + [
    (("providers", f"my-{type_name}", *place), value, words)
    for type_name in vendors.type_names()
    for place, field in options(vendors.find(type_name).settings)
    if place != ("type",)
    for value, words in wrong_values(field)
    if value is not None
]


@pytest.mark.parametrize(
    ("place", "value", "words"), CASES, ids=[f"{'.'.join(p)}={v!r}" for p, v, _ in CASES]
)
def test_every_option_says_what_it_expects(
    tmp_path: Path, place: tuple[str, ...], value: Any, words: str
) -> None:
    tree: Any = value
    for name in reversed(place):
        tree = {name: tree}
    if place[0] == "providers":
        settings = tree["providers"][place[1]]
        settings |= {"type": place[1].removeprefix("my-")}
        settings.setdefault("api_key", "k")
        settings.setdefault("base_url", "http://rack/v1")
    told = mistakes(tmp_path, yaml.safe_dump(tree))
    (line,) = [line for line in told if line.startswith(f"{'.'.join(place)}: ")]
    assert words in line, line
    assert "expected" in line
    assert "(line " in line
