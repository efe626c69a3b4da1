// Plays a recording in real time to `inference.STT` of the installed @livekit/agents.
// See drive_stt.py.

import { agents, errorFields, frames, pace, parsed, readWave, run, say, sleep } from "./events.mjs";

const { inference, stt } = agents;

const options = parsed({
  model: { type: "string", multiple: true, default: ["deepgram/nova-3"] },
  language: { type: "string" },
  fallback: { type: "string", multiple: true, default: [] },
  extra: { type: "string", default: "{}" },
  update: { type: "string" },
  "frame-ms": { type: "string", default: "50" },
  speed: { type: "string", default: "1" },
  "tail-s": { type: "string", default: "0" },
  retries: { type: "string", default: "0" },
  "timeout-s": { type: "string", default: "10" },
  "patience-s": { type: "string", default: "10" },
});

const NAMES = Object.fromEntries(
  Object.entries(stt.SpeechEventType)
    .filter(([name]) => Number.isNaN(Number(name)))
    .map(([name, value]) => [value, name.toLowerCase()]),
);

function described(event) {
  const fields = { type: NAMES[event.type] ?? event.type, request_id: event.requestId ?? "" };
  const best = event.alternatives?.[0];
  if (best) {
    Object.assign(fields, {
      text: best.text,
      language: best.language,
      start: best.startTime,
      end: best.endTime,
      confidence: best.confidence,
      speaker_id: best.speakerId ?? null,
      words: (best.words ?? []).map((word) => ({
        word: word.text,
        start: word.startTime ?? null,
        end: word.endTime ?? null,
        confidence: word.confidence ?? null,
        speaker_id: word.speakerId ?? null,
      })),
    });
  }
  if (event.recognitionUsage) fields.audio_s = event.recognitionUsage.audioDuration;
  return fields;
}

async function recognise(model, whole, rate) {
  const tell = (event, fields = {}) => say(event, { model, ...fields });
  const connOptions = {
    maxRetry: Number(options.retries),
    retryIntervalMs: 100,
    timeoutMs: Number(options["timeout-s"]) * 1000,
  };
  const recogniser = new inference.STT({
    model,
    language: options.language,
    modelOptions: JSON.parse(options.extra),
    ...(options.fallback.length > 0 ? { fallback: options.fallback } : {}),
    connOptions,
  });
  recogniser.on("error", (error) =>
    tell("error", { recoverable: error.recoverable, ...errorFields(error.error) }),
  );
  const stream = recogniser.stream({ connOptions });
  let over = false;
  const listening = (async () => {
    for await (const event of stream) tell("speech", described(event));
    tell("ended");
  })()
    .catch((error) => tell("failed", errorFields(error)))
    .finally(() => (over = true));

  tell("started");
  const frameMs = Number(options["frame-ms"]);
  const wait = pace(Number(options.speed));
  const all = [...frames(whole, rate, frameMs)];
  for (const [number, frame] of all.entries()) {
    await wait(frameMs / 1000);
    if (over) break;
    if (options.update && number === Math.floor(all.length / 2)) {
      recogniser.updateOptions(JSON.parse(options.update));
      tell("updated");
    }
    stream.pushFrame(frame);
  }
  if (!over) {
    stream.endInput();
    tell("input_ended");
  }
  await Promise.race([listening, sleep(Number(options["patience-s"]))]);
  if (!over) tell("still_waiting");
  stream.close();
}

await run(async () => {
  const { samples, rate } = readWave(options.positionals[0]);
  const whole = new Int16Array(samples.length + Math.floor(Number(options["tail-s"]) * rate));
  whole.set(samples);
  await Promise.all(options.model.map((model) => recognise(model, whole, rate)));
});
