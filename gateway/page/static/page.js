// What happens now: asked for every two seconds, drawn as tables. No text of a caller is ever HTML.

const EVERY_MS = 2000;
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

// columns: [title, value of a row, class]
function draw(id, columns, rows, nothing) {
  const table = document.getElementById(id);
  const looked = filters.elements.find.value.trim();
  const head = made("tr");
  for (const [title, , name] of columns) {
    const cell = made("th", title, name === "number" ? name : "");
    cell.scope = "col";
    head.append(cell);
  }
  const body = rows.map((row) => {
    const line = made("tr");
    for (const [, value, name] of columns) line.append(made("td", value(row), name));
    if (looked && JSON.stringify(row).includes(looked)) line.className = "found";
    return line;
  });
  if (!rows.length) {
    const cell = made("td", nothing, "nothing");
    cell.colSpan = columns.length;
    const line = made("tr");
    line.append(cell);
    body.push(line);
  }
  const heads = made("thead"), bodies = made("tbody");
  heads.append(head);
  bodies.append(...body);
  table.replaceChildren(heads, bodies);
  if (looked) table.querySelector("tr.found")?.scrollIntoView({ block: "nearest" });
}

function facts(id, pairs) {
  document.getElementById(id).replaceChildren(...pairs.map(([name, value]) => {
    const box = made("div");
    box.append(made("dt", name), made("dd", value));
    return box;
  }));
}

function show(now) {
  const ready = now.readiness.ready;
  state.textContent = now.readiness.draining ? "shutting down" : ready ? "ready" : "not ready";
  state.className = ready ? "good" : "bad";
  facts("numbers", [
    ...Object.entries(now.open).map(([route, count]) => [`open: ${route}`, number(count)]),
    ["served since the start", number(now.served)],
    ["interruption model", now.readiness.bargein?.version ?? "none"],
    ...(now.readiness.workers
      ? [["workers ready", `${now.readiness.workers.ready} of ${now.readiness.workers.configured}`]] : []),
  ]);
  draw("calls", [
    ["route", (c) => c.route], ["for", (c) => ago(c.began, now.at), "number"], ["key", (c) => c.key],
    ["identity", (c) => c.identity], ["room", (c) => c.room], ["job", (c) => c.job],
    ["model", (c) => c.model], ["address", (c) => c.address], ["id", (c) => c.request_id, "id"],
  ], now.calls, "nobody");
  draw("resting", [
    ["provider", (r) => r.provider], ["model", (r) => (r.model === "*" ? "all of it" : r.model)],
    ["why", (r) => r.why || "told by another process"], ["for", (r) => seconds(r.seconds), "number"],
  ], now.resting, "nothing: every provider is asked");
  draw("failures", [
    ["ago", (f) => ago(f.at, now.at), "number"], ["route", (f) => f.route],
    ["outcome", (f) => (f.outcome === "ok" ? "served by another" : f.outcome)],
    ["reason", (f) => [f.message, f.tries].filter(Boolean).join(" — ")],
    ["key", (f) => f.key], ["room", (f) => f.room], ["model", (f) => f.model],
    ["provider", (f) => f.provider], ["id", (f) => f.request_id, "id"],
  ], now.failures, "nothing");
  draw("latencies", [
    ["route", (l) => l.route], ["provider", (l) => l.provider], ["model", (l) => l.model],
    ["what", (l) => l.what], ["p50", (l) => seconds(l.p50), "number"], ["p95", (l) => seconds(l.p95), "number"],
    ["p99", (l) => seconds(l.p99), "number"], ["of", (l) => number(l.count), "number"],
  ], now.latencies, "nothing was measured yet");
  const costs = now.costs;
  facts("sums", costs.error ? [["", costs.error]] : [
    [`today, ${costs.currency ?? ""}`, number(costs.today?.cost ?? 0)],
    [`this month, ${costs.currency ?? ""}`, number(costs.month?.cost ?? 0)],
    ["requests this month", number(costs.month?.requests ?? 0)],
  ]);
  draw("costs", [
    ["key", (r) => r.key], ["model", (r) => r.model], ["requests", (r) => number(r.requests), "number"],
    ["tokens in", (r) => number(r.prompt), "number"], ["tokens out", (r) => number(r.completion), "number"],
    ["audio s", (r) => number(r.audio_s), "number"], ["characters", (r) => number(r.characters), "number"],
    ["cost", (r) => number(r.cost), "number"],
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
filters.addEventListener("submit", (event) => event.preventDefault());
ask();
