// Kept windows of interruptions: one after the other is played, and a person says what it was.

const section = document.getElementById("windows");
const said = document.getElementById("windows-said");
const go = document.getElementById("windows-go");
const choices = document.getElementById("windows-choices");
const LABELS = { i: "interruption", b: "backchannel", n: "noise" };
const BASE = "/ui/api/windows";
let waiting = [], at = 0, labelled = 0, busy = false, asked = 0, audio, playing;

// Nobody waits for it: a key counts while the sound is still on its way.
async function play() {
  const mine = ++asked;
  playing?.stop();
  playing = undefined;
  const answer = await fetch(`${BASE}/${waiting[at].name}`);
  if (!answer.ok) return;
  audio ??= new AudioContext();
  const sound = await audio.decodeAudioData(await answer.arrayBuffer());
  if (mine !== asked) return;
  const source = audio.createBufferSource();
  source.buffer = sound;
  source.connect(audio.destination);
  source.start();
  playing = source;
}

function tell() {
  const one = waiting[at];
  const decided = one.detected ? "an interruption" : "none";
  const followed = one.label ? `${one.label} (${one.confidence.toFixed(2)})` : "nobody knows";
  said.textContent = `${at + 1} of ${waiting.length}: ${new Date(1000 * one.at).toLocaleString()}, decided ${decided} ` +
    `at ${one.claim.toFixed(2)}; by what followed: ${followed}`;
}

function show() {
  const over = at >= waiting.length;
  choices.hidden = over;
  go.hidden = !over;
  if (!over) {
    tell();
    play().catch(() => undefined);  // it can be asked for again
    return;
  }
  asked += 1;
  playing?.stop();
  said.textContent = waiting.length ? `${labelled} labelled; nothing more waits` : "nothing waits for a label";
}

async function answer(key) {
  if (busy || at >= waiting.length) return;
  if (key === " ") return play();
  busy = true;
  try {
    const url = `${BASE}/${waiting[at].name}`;
    let done = true;
    if (LABELS[key]) {
      done = (await fetch(url, { method: "POST", body: JSON.stringify({ label: LABELS[key] }) })).ok;
      if (done) labelled += 1;
    } else if (key === "d") {
      done = (await fetch(url, { method: "DELETE" })).ok;
    }
    at += 1;
    show();
    if (!done) said.textContent = `the last one was not taken; it may be deleted. ${said.textContent}`;
  } finally {
    busy = false;
  }
}

go.addEventListener("click", async () => {
  const found = await fetch(BASE);
  if (found.status === 401) return location.reload();
  const listed = await found.json();
  if (!found.ok) {
    said.textContent = listed.error.message;
    return;
  }
  waiting = listed.windows;
  at = labelled = 0;
  show();
});
choices.addEventListener("click", (event) => {
  const key = event.target.dataset?.key;
  if (key) answer(key);
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, button");
  if (choices.hidden || typing?.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing && event.key === " ") return;  // the button that has the focus
  if (event.key === " " || event.key in LABELS || event.key === "d" || event.key === "s") {
    event.preventDefault();
    answer(event.key);
  }
});

const known = await fetch(`${BASE}?only=on`);
if (known.ok && (await known.json()).on) {
  section.hidden = false;
  document.getElementById("windows-link").hidden = false;
}
