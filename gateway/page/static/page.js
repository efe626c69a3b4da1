// What happens now: asked for every two seconds, drawn as tables. No text of a caller is ever HTML.

const EVERY_MS = 2000;
const LATELY_S = 900;
const filters = document.getElementById("filters");
const state = document.getElementById("state");

function made(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

function seconds(value) {
  if (value === undefined || value === null) return "";
  if (value < 1) return `${Math.round(1000 * value)} ms`;
  return value < 10 ? `${value.toFixed(2)} s` : `${Math.round(value)} s`;
}

function ago(at, now) {
  const s = Math.max(0, now - at);
  if (s < 90) return `${Math.round(s)} s`;
  return s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
}

function number(value) {
  return typeof value === "number" ? value.toLocaleString(undefined, { maximumFractionDigits: 4 }) : value ?? "";
}

function money(value, currency) {
  if (typeof value !== "number") return "";
  const digits = value && value < 1 ? 4 : 2;
  return value.toLocaleString(undefined, {
    style: "currency", currency: currency ?? "USD", minimumFractionDigits: digits, maximumFractionDigits: digits,
  });
}

const WHY = {
  upstream_auth: "refuses the key", upstream_quota: "the account is empty", upstream_forbidden: "not for this key",
  upstream_not_found: "does not have the model", upstream_unreachable: "cannot be reached",
  upstream_timeout: "answers too late", upstream_overloaded: "is overloaded", rate_limited: "limits our rate",
  upstream_error: "fails", stream_interrupted: "breaks off", upstream_protocol: "does not keep to its protocol",
};

// columns: [title, value of a row: a text or an element, class]
function draw(id, columns, rows, nothing) {
  const table = document.getElementById(id);
  const looked = filters.elements.find.value.trim();
  const body = rows.map((row) => {
    const line = made("tr");
    for (const [title, value, name] of columns) {
      const shown = value(row);
      const cell = made("td", shown instanceof Node ? undefined : shown, name);
      if (shown instanceof Node) cell.append(shown);
      cell.dataset.name = title;
      line.append(cell);
    }
    if (looked && JSON.stringify(row).includes(looked)) line.className = "found";
    return line;
  });
  const heads = made("thead"), bodies = made("tbody");
  if (rows.length) {
    const head = made("tr");
    for (const [title, , name] of columns) {
      const cell = made("th", title, name === "number" ? name : "");
      cell.scope = "col";
      head.append(cell);
    }
    heads.append(head);
  } else {
    const line = made("tr");
    line.append(made("td", nothing, "nothing"));
    body.push(line);
  }
  bodies.append(...body);
  table.replaceChildren(heads, bodies);
  if (looked) table.querySelector("tr.found")?.scrollIntoView({ block: "nearest" });
}

// tiles: [name, value, what else, class]
function tiles(id, all) {
  document.getElementById(id).replaceChildren(...all.map(([name, value, more, look]) => {
    const box = made("div", undefined, look);
    box.append(made("dt", name), made("dd", value), made("dd", more, "more"));
    return box;
  }));
}

// The connections of one call, which have the same job or room, are one row.
function calls(open) {
  const found = new Map();
  for (const one of open) {
    const name = `${one.key} ${one.job || one.room || one.request_id}`;
    const call = found.get(name) ?? { ...one, routes: [] };
    call.began = Math.min(call.began, one.began);
    call.room ||= one.room;
    call.routes.push(one);
    found.set(name, call);
  }
  return [...found.values()];
}

function chips(routes) {
  const box = made("div");
  for (const one of routes) {
    const chip = made("span", undefined, "chip");
    chip.append(made("b", one.route), one.model ? ` ${one.model}` : "");
    chip.title = one.request_id;
    box.append(chip);
  }
  return box;
}

function bar(one, longest) {
  const box = made("div", undefined, "bar");
  for (const value of [one.p95, one.p50]) {
    const part = made("i");
    part.style.width = `${Math.max(1, 100 * value / longest)}%`;
    box.append(part);
  }
  return box;
}

// "a: x, a: x, b: y" as "a: x (2 times), b: y"
function together(tries) {
  const counts = new Map();
  for (const one of tries.split(", ")) counts.set(one, (counts.get(one) ?? 0) + 1);
  return [...counts].map(([one, times]) => (times > 1 ? `${one} (${times} times)` : one)).join(", ");
}

function outcome(failure) {
  const saved = failure.outcome === "ok";
  return made("span", saved ? "served by another" : failure.outcome, saved ? "warn" : "bad");
}

function show(now) {
  const ready = now.readiness.ready, costs = now.costs, currency = costs.currency;
  const open = calls(now.calls), count = Object.values(now.open).reduce((sum, one) => sum + one, 0);
  const lost = now.failures.filter((f) => f.outcome !== "ok" && now.at - f.at < LATELY_S).length;
  const saved = now.failures.filter((f) => f.outcome === "ok" && now.at - f.at < LATELY_S).length;
  const workers = now.readiness.workers;
  state.textContent = now.readiness.draining ? "shutting down" : ready ? "ready" : "not ready";
  state.className = `pill ${ready ? "good" : "bad"}`;
  document.title = `Parley: ${count} open`;
  tiles("numbers", [
    ["open now", number(count), Object.entries(now.open).map(([route, n]) => `${route} ${n}`).join(", "), count ? "good" : ""],
    ["failed, last 15 min", number(lost), saved ? `${saved} more served by another` : "", lost ? "bad" : saved ? "warn" : "good"],
    ["providers at rest", number(new Set(now.resting.map((r) => r.provider)).size), "", now.resting.length ? "warn" : "good"],
    ["cost today", costs.error ? "?" : money(costs.today?.cost ?? 0, currency), `${number(costs.today?.requests ?? 0)} requests`],
    ["cost this month", costs.error ? "?" : money(costs.month?.cost ?? 0, currency), `${number(costs.month?.requests ?? 0)} requests`],
    workers
      ? ["workers ready", `${workers.ready} of ${workers.configured}`, `served ${number(now.served)} since the start`, workers.ready < workers.configured ? "bad" : "good"]
      : ["served since the start", number(now.served), `interruption model ${now.readiness.bargein?.version ?? "none"}`],
  ]);
  draw("calls", [
    ["room", (c) => c.room], ["for", (c) => ago(c.began, now.at), "number"], ["connections", (c) => chips(c.routes)],
    ["identity", (c) => c.identity], ["key", (c) => c.key], ["address", (c) => c.address],
    ["id", (c) => c.job || c.request_id, "id"],
  ], open, "nobody");
  draw("resting", [
    ["provider", (r) => r.provider], ["model", (r) => (r.model === "*" ? "all of it" : r.model)],
    ["why", (r) => WHY[r.why] ?? (r.why || "told by another process")],
    ["asked again in", (r) => seconds(r.seconds), "number"],
  ], now.resting, "nobody: every provider is asked");
  draw("failures", [
    ["ago", (f) => ago(f.at, now.at), "number"], ["route", (f) => f.route], ["outcome", outcome],
    ["reason", (f) => [f.message, together(f.tries)].filter(Boolean).join(" — "), "reason"],
    ["key", (f) => f.key], ["room", (f) => f.room], ["model", (f) => f.model],
    ["provider", (f) => f.provider], ["id", (f) => [f.job, f.request_id].filter(Boolean).join(" "), "id"],
  ], now.failures, "nothing");
  const longest = Math.max(...now.latencies.map((l) => l.p95), 0.001);
  draw("latencies", [
    ["route", (l) => l.route], ["what", (l) => l.what], ["provider", (l) => l.provider], ["model", (l) => l.model],
    ["", (l) => bar(l, longest), "bars"],
    ["p50", (l) => seconds(l.p50), "number"], ["p95", (l) => seconds(l.p95), "number"],
    ["p99", (l) => seconds(l.p99), "number"], ["of", (l) => number(l.count), "number"],
  ], now.latencies, "nothing was measured yet");
  document.getElementById("costs-note").textContent = costs.error ?? "";
  draw("costs", [
    ["key", (r) => r.key || "anonymous"], ["model", (r) => r.model || "none: interruptions, turns"],
    ["requests", (r) => number(r.requests), "number"],
    ["tokens in", (r) => number(r.prompt), "number"], ["tokens out", (r) => number(r.completion), "number"],
    ["audio s", (r) => number(r.audio_s), "number"], ["characters", (r) => number(r.characters), "number"],
    ["cost", (r) => money(r.cost, currency), "number"],
  ], costs.rows ?? [], "nothing this month");
}

let waiting = 0;
async function ask() {
  clearTimeout(waiting);
  const asked = new URLSearchParams();
  for (const name of ["key", "room", "provider"]) {
    const value = filters.elements[name].value.trim();
    if (value) asked.set(name, value);
  }
  const wanted = [...asked].length > 0 || filters.elements.find.value.trim() !== "";
  document.getElementById("clear").hidden = !wanted;
  try {
    const answer = await fetch(`/ui/api/now?${asked}`, { cache: "no-store" });
    if (answer.status === 401) return location.reload();
    show(await answer.json());
  } catch {
    state.textContent = "no answer; trying again";
    state.className = "bad";
  }
  waiting = setTimeout(ask, document.hidden ? 5 * EVERY_MS : EVERY_MS);
}

filters.addEventListener("input", ask);
filters.addEventListener("reset", () => setTimeout(ask));
filters.addEventListener("submit", (event) => event.preventDefault());
ask();
