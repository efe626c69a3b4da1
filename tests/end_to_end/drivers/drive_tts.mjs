// Has `inference.TTS` of the installed @livekit/agents say utterances, one after the other.
// See drive_tts.py.

import { writeFileSync } from "node:fs";

import { agents, errorFields, parsed, run, say, sleep } from "./events.mjs";

const { inference, tts } = agents;

const everybodys = parsed({
  model: { type: "string", default: "cartesia/sonic-3" },
  voice: { type: "string" },
  language: { type: "string" },
  rate: { type: "string" },
  fallback: { type: "string", multiple: true, default: [] },
  extra: { type: "string", default: "{}" },
  "word-pause-s": { type: "string", default: "0.02" },
  "idle-s": { type: "string", default: "0" },
  "interrupt-s": { type: "string" },
  prewarm: { type: "boolean", default: false },
  retries: { type: "string", default: "0" },
  "timeout-s": { type: "string", default: "10" },
  out: { type: "string" },
  job: { type: "string", multiple: true, default: [] },
});

function waveHeader(bytes, rate) {
  const header = Buffer.alloc(44);
  header.write("RIFF", 0);
  header.writeUInt32LE(36 + bytes, 4);
  header.write("WAVEfmt ", 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(rate, 24);
  header.writeUInt32LE(rate * 2, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write("data", 36);
  header.writeUInt32LE(bytes, 40);
  return header;
}

async function speak(synthesizer, text, options, connOptions) {
  const tell = (event, fields = {}) => say(event, { job: options.name, utterance: text, ...fields });
  const askedAt = performance.now();
  const audio = [];
  const words = [];
  let bytes = 0;
  let rate = 0;
  let firstAt = null;
  let failure = null;
  const onError = (error) => (failure = error);
  synthesizer.on("error", onError);
  const stream = synthesizer.stream({ connOptions });
  let left = false;
  const writing = (async () => {
    for (const word of text.split(" ")) {
      if (left) return;
      stream.pushText(`${word} `);
      await sleep(Number(options["word-pause-s"]));
    }
    if (!left) stream.endInput();
  })().catch(() => {});
  tell("asked");
  try {
    for await (const event of stream) {
      if (event === tts.SynthesizeStream.END_OF_STREAM) continue;
      firstAt ??= performance.now();
      rate = event.frame.sampleRate;
      const { data } = event.frame;
      audio.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
      bytes += data.byteLength;
      for (const word of event.timedTranscripts ?? []) {
        words.push({ word: word.text, start: word.startTime ?? null, end: word.endTime ?? null });
      }
      const waitedS = (performance.now() - firstAt) / 1000;
      if (options["interrupt-s"] !== undefined && waitedS >= Number(options["interrupt-s"])) {
        left = true;
        tell("interrupted", { audio_bytes: bytes });
        break;
      }
    }
    // A stream that failed ends like one that did not; the error comes as an event of its own.
    if (!left && !failure) await sleep(0.05);
    if (failure) {
      tell("failed", { audio_bytes: bytes, ...errorFields(failure.error) });
    } else if (!left) {
      tell("spoken", {
        audio_bytes: bytes,
        sample_rate: rate,
        audio_s: bytes / 2 / (rate || 1),
        first_audio_s: firstAt === null ? null : (firstAt - askedAt) / 1000,
        words,
      });
    }
  } catch (error) {
    tell("failed", { audio_bytes: bytes, ...errorFields(error) });
  } finally {
    left = true;
    stream.close();
    await writing;
    synthesizer.off("error", onError);
  }
  return { audio, rate };
}

async function talk(options) {
  const connOptions = {
    maxRetry: Number(options.retries),
    retryIntervalMs: 100,
    timeoutMs: Number(options["timeout-s"]) * 1000,
  };
  const named = { voice: options.voice, language: options.language };
  const given = Object.fromEntries(Object.entries(named).filter(([, value]) => value));
  if (options.rate) given.sampleRate = Number(options.rate);
  if (options.fallback.length > 0) given.fallback = options.fallback;
  const modelOptions = typeof options.extra === "string" ? JSON.parse(options.extra) : options.extra;
  const synthesizer = new inference.TTS({ model: options.model, modelOptions, connOptions, ...given });
  synthesizer.on("error", (error) =>
    say("error", { job: options.name, recoverable: error.recoverable, ...errorFields(error.error) }),
  );
  if (options.prewarm) synthesizer.prewarm();
  const spoken = [];
  for (const [number, text] of options.utterances.entries()) {
    if (number > 0) await sleep(Number(options["idle-s"]));
    spoken.push(await speak(synthesizer, text, options, connOptions));
  }
  await synthesizer.close?.();
  if (options.out) {
    const samples = Buffer.concat(spoken.flatMap((one) => one.audio));
    const header = waveHeader(samples.length, spoken[0].rate || 24000);
    writeFileSync(options.out, Buffer.concat([header, samples]));
  }
}

await run(async () => {
  const own = { ...everybodys, utterances: everybodys.positionals };
  const jobs = everybodys.job.map((given) => {
    const { job: name, ...job } = JSON.parse(given);
    const dashed = Object.entries(job).map(([key, value]) => [key.replaceAll("_", "-"), value]);
    return { ...own, name, ...Object.fromEntries(dashed) };
  });
  await Promise.all((jobs.length > 0 ? jobs : [own]).map(talk));
});
