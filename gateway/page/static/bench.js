// The bench: recognisers, voices, chat and interruption, by the same routes that agents use.

const RATE = 16000; // of the microphone, as /stt and /bargein want it
const SAY_RATE = 24000; // of /audio/speech
const WINDOW_S = 3; // the longest that /bargein looks at
const ASK_MS = 100;
const AGENT = "Thank you for calling. I can help you with your booking, with an invoice, or with a "
  + "change of your address. While I look that up for you, please tell me whether this is about the "
  + "flat in the old town or about the house by the lake, and since when you have lived there.";

const at = (id) => document.getElementById(id);
const base = location.href.replace(/^http/, "ws").replace(/\/ui\/.*$/, "/ui/v1");

function reason(error) {
  return error?.name === "NotAllowedError" ? "the microphone was not allowed" : error?.message ?? String(error);
}

async function models() {
  const answer = await fetch("/ui/api/models");
  if (!answer.ok) return;
  const known = await answer.json();
  for (const select of document.querySelectorAll("select[data-models]")) {
    const names = known[select.dataset.models];
    const options = names.map((name) => new Option(name, name));
    if ("none" in select.dataset) options.unshift(new Option("nobody", ""));
    if (!options.length) options.push(new Option("none is configured", ""));
    select.replaceChildren(...options);
  }
}

// The microphone; `hear` gets pieces of 50 ms as Int16Array. Returns how to stop it.
async function listen(hear) {
  if (!navigator.mediaDevices) throw new Error("a microphone needs localhost or HTTPS");
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  });
  const context = new AudioContext({ sampleRate: RATE });
  await context.audioWorklet.addModule("/ui/static/microphone.js");
  const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => hear(data);
  context.createMediaStreamSource(stream).connect(node);
  return () => {
    for (const track of stream.getTracks()) track.stop();
    context.close();
  };
}

function base64(samples) {
  const bytes = new Uint8Array(samples.buffer);
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

// -- listen

function recogniser(model, language, name, words) {
  name.textContent = model;
  words.replaceChildren();
  const socket = new WebSocket(`${base}/stt?model=${encodeURIComponent(model)}`);
  const interim = document.createElement("i");
  words.append(interim);
  socket.onopen = () => {
    const settings = { sample_rate: String(RATE), encoding: "pcm_s16le" };
    if (language) settings.language = language;
    socket.send(JSON.stringify({ type: "session.create", model, settings }));
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "interim_transcript") interim.textContent = message.transcript;
    if (message.type === "final_transcript") {
      interim.before(`${message.transcript} `);
      interim.textContent = "";
    }
    if (message.type === "error") interim.textContent = message.message;
  };
  socket.onclose = ({ code }) => {
    if (code !== 1000 && !interim.textContent) interim.textContent = `closed (${code})`;
  };
  return socket;
}

let stopListening = null;
at("stt-go").addEventListener("click", async () => {
  const button = at("stt-go");
  if (stopListening) {
    stopListening();
    stopListening = null;
    button.textContent = "Speak";
    button.setAttribute("aria-pressed", "false");
    return;
  }
  const language = at("stt-language").value.trim();
  const sockets = ["a", "b"]
    .filter((one) => at(`stt-${one}`).value)
    .map((one) => recogniser(at(`stt-${one}`).value, language, at(`stt-${one}-name`), at(`stt-${one}-text`)));
  if (!at("stt-b").value) at("stt-b-name").textContent = at("stt-b-text").textContent = "";
  try {
    const stop = await listen((samples) => {
      const message = JSON.stringify({ type: "input_audio", audio: base64(samples) });
      for (const socket of sockets) if (socket.readyState === WebSocket.OPEN) socket.send(message);
    });
    stopListening = () => {
      stop();
      for (const socket of sockets) {
        if (socket.readyState !== WebSocket.OPEN) continue;
        socket.send('{"type":"session.finalize"}');
        socket.send('{"type":"session.close"}');
      }
    };
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
  } catch (error) {
    for (const socket of sockets) socket.close();
    at("stt-a-text").textContent = reason(error);
  }
});

// -- speak

async function post(path, body) {
  const answer = await fetch(`/ui/v1${path}`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  throw new Error(told?.error?.message ?? `status ${answer.status}`);
}

// Say `input` by `model`; `first` is called with the first audio. Returns the context that plays,
// and when it is done.
async function say(model, voice, input, first) {
  const context = new AudioContext({ sampleRate: SAY_RATE });
  const body = { model, input, response_format: "pcm" };
  if (voice) body.voice = voice;
  const reader = (await post("/audio/speech", body)).body.getReader();
  let ends = 0, odd = new Uint8Array(0), heard = false;
  const done = (async () => {
    for (;;) {
      const { done: over, value } = await reader.read();
      if (over || context.state === "closed") break;
      const bytes = new Uint8Array(odd.length + value.length);
      bytes.set(odd);
      bytes.set(value, odd.length);
      const count = bytes.length >> 1;
      odd = bytes.slice(count * 2);
      if (!count) continue;
      if (!heard) first();
      heard = true;
      const buffer = context.createBuffer(1, count, SAY_RATE);
      const floats = buffer.getChannelData(0), view = new DataView(bytes.buffer);
      for (let i = 0; i < count; i++) floats[i] = view.getInt16(2 * i, true) / 32768;
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.connect(context.destination);
      ends = Math.max(ends, context.currentTime + 0.05);
      source.start(ends);
      ends += buffer.duration;
    }
    return ends;
  })();
  return { context, done };
}

at("tts-go").addEventListener("click", async () => {
  const said = at("tts-said"), began = performance.now();
  said.textContent = "…";
  try {
    const { context, done } = await say(at("tts-model").value, at("tts-voice").value.trim(), at("tts-text").value,
      () => { said.textContent = `first audio after ${Math.round(performance.now() - began)} ms`; });
    const length = await done;
    said.textContent += `, ${length.toFixed(1)} s of speech`;
    setTimeout(() => context.close(), Math.max(0, (length - context.currentTime) * 1000 + 500));
  } catch (error) {
    said.textContent = reason(error);
  }
});

// -- chat

at("chat-go").addEventListener("click", async () => {
  const said = at("chat-said"), began = performance.now();
  said.textContent = "…";
  try {
    const answer = await post("/chat/completions", {
      model: at("chat-model").value, stream: true,
      messages: [{ role: "user", content: at("chat-text").value }],
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", text = "", first = null;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
        const chunk = JSON.parse(line.slice(6));
        if (chunk.error) throw new Error(chunk.error.message);
        text += chunk.choices?.[0]?.delta?.content ?? "";
        if (text && first === null) first = performance.now() - began;
        said.textContent = text;
      }
    }
    said.textContent = `${text}\n`;
    const took = document.createElement("i");
    took.textContent = `first token after ${Math.round(first ?? 0)} ms, done after ${Math.round(performance.now() - began)} ms`;
    said.append(took);
  } catch (error) {
    said.textContent = reason(error);
  }
});

// -- interrupt

const plot = at("bargein-plot"), SHOWN_S = 10;
let waves = [], points = []; // [time, loudness], [time, probability]

function draw() {
  const pen = plot.getContext("2d"), sharp = devicePixelRatio || 1;
  const width = plot.clientWidth, height = plot.clientHeight;
  if (plot.width !== Math.round(width * sharp)) {
    plot.width = Math.round(width * sharp);
    plot.height = Math.round(height * sharp);
  }
  pen.setTransform(sharp, 0, 0, sharp, 0, 0);
  const style = getComputedStyle(document.documentElement);
  const now = performance.now() / 1000, x = (time) => width * (1 - (now - time) / SHOWN_S);
  const threshold = Number(at("bargein-threshold").value);
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = style.getPropertyValue("--bar");
  for (const [time, loud] of waves) {
    const tall = Math.min(1, loud * 3) * height;
    pen.fillRect(x(time), (height - tall) / 2, width * 0.05 / SHOWN_S, tall);
  }
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = style.getPropertyValue("--soft");
  pen.strokeStyle = style.getPropertyValue("--line");
  pen.lineWidth = 1;
  for (const share of [0.25, 0.5, 0.75]) {
    pen.beginPath();
    pen.moveTo(0, height * (1 - share));
    pen.lineTo(width, height * (1 - share));
    pen.stroke();
    pen.fillText(share.toFixed(2), 4, height * (1 - share) - 4);
  }
  pen.fillText("now", width - 28, height - 6);
  pen.fillText(`${SHOWN_S} s ago`, 4, height - 6);
  pen.strokeStyle = style.getPropertyValue("--bad");
  pen.lineWidth = 1.5;
  pen.setLineDash([6, 6]);
  pen.beginPath();
  pen.moveTo(0, height * (1 - threshold));
  pen.lineTo(width, height * (1 - threshold));
  pen.stroke();
  pen.setLineDash([]);
  pen.strokeStyle = style.getPropertyValue("--accent");
  pen.lineWidth = 3;
  pen.beginPath();
  for (const [time, probability] of points) pen.lineTo(x(time), height * (1 - probability));
  pen.stroke();
}
addEventListener("resize", draw);
draw();

let stopInterrupting = null;
at("bargein-threshold").addEventListener("input", () => {
  at("bargein-value").textContent = Number(at("bargein-threshold").value).toFixed(2);
  draw();
});

at("bargein-go").addEventListener("click", async () => {
  const button = at("bargein-go"), said = at("bargein-said");
  if (stopInterrupting) return stopInterrupting();
  waves = [];
  points = [];
  said.textContent = "";
  let agent = null, stop = null, asking = 0, drawing = 0, window_ = new Int16Array(0), number = 0;
  const socket = new WebSocket(`${base}/bargein`);
  stopInterrupting = () => {
    stopInterrupting = null;
    clearInterval(asking);
    clearInterval(drawing);
    stop?.();
    if (agent && agent.context.state !== "closed") agent.context.close();
    socket.close();
    button.textContent = "Begin";
    button.setAttribute("aria-pressed", "false");
  };
  socket.onopen = () => socket.send(JSON.stringify({
    type: "session.create",
    settings: { sample_rate: RATE, num_channels: 1, threshold: 0.5, min_frames: 2, encoding: "s16le" },
  }));
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "error") said.textContent = message.message;
    if (!message.probabilities) return;
    const fresh = message.probabilities.slice(-4), highest = Math.max(...fresh);
    const now = performance.now() / 1000;
    points.push([now, highest]);
    points = points.filter(([time]) => now - time < SHOWN_S);
    if (highest >= Number(at("bargein-threshold").value) && agent) {
      said.textContent = `interrupted at ${highest.toFixed(2)}: the agent falls silent`;
      if (agent.context.state === "running") agent.context.suspend();
    }
  };
  try {
    stop = await listen((samples) => {
      const joined = new Int16Array(Math.min(window_.length + samples.length, WINDOW_S * RATE));
      const kept = joined.length - samples.length;
      joined.set(window_.subarray(window_.length - kept));
      joined.set(samples, kept);
      window_ = joined;
      let sum = 0;
      for (const sample of samples) sum += (sample / 32768) ** 2;
      const now = performance.now() / 1000;
      waves.push([now, Math.sqrt(sum / samples.length)]);
      waves = waves.filter(([time]) => now - time < SHOWN_S);
    });
    if (!stopInterrupting) return stop();
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
    asking = setInterval(() => {
      if (socket.readyState !== WebSocket.OPEN || !window_.length) return;
      const message = new Uint8Array(8 + window_.byteLength);
      new DataView(message.buffer).setBigUint64(0, BigInt(++number), true);
      message.set(new Uint8Array(window_.buffer), 8);
      socket.send(message);
    }, ASK_MS);
    drawing = setInterval(draw, 50);
    const model = at("tts-model").value;
    if (model) {
      agent = await say(model, at("tts-voice").value.trim(), AGENT, () => {});
      agent.done.catch((error) => { said.textContent = reason(error); });
    } else {
      said.textContent = "no voice is configured: only the microphone is judged";
    }
  } catch (error) {
    const why = reason(error);
    stopInterrupting?.();
    said.textContent = why;
  }
});

models();
