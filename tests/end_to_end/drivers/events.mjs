// What every Node driver shares: the installed packages, JSON lines out, wave files in.

import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const startedAt = performance.now();

/** Import from the environment's node_modules, which is the working directory's. */
export function installed(file) {
  return import(pathToFileURL(path.join(process.cwd(), "node_modules", file)).href);
}

export const agents = await installed("@livekit/agents/dist/index.js");
export const rtc = await installed("@livekit/rtc-node/dist/index.js");

/** Print one event as a JSON line. */
export function say(event, fields = {}) {
  const at = Number(((performance.now() - startedAt) / 1000).toFixed(4));
  process.stdout.write(JSON.stringify({ event, at, ...fields }) + "\n");
}

/** What the client knows about a failure, above all whether it would try again. */
export function errorFields(error) {
  return {
    kind: error?.constructor?.name ?? typeof error,
    message: String(error?.message ?? error).slice(0, 500),
    status: error?.statusCode ?? null,
    retryable: error?.retryable ?? null,
  };
}

/** Samples (mono, 16 bit) and sample rate of a wave file. */
export function readWave(file) {
  const bytes = readFileSync(file);
  let offset = 12;
  let rate = 0;
  while (offset < bytes.length) {
    const name = bytes.toString("latin1", offset, offset + 4);
    const size = bytes.readUInt32LE(offset + 4);
    if (name === "fmt ") {
      if (bytes.readUInt16LE(offset + 10) !== 1 || bytes.readUInt16LE(offset + 22) !== 16) {
        throw new Error(`${file}: mono 16-bit samples are needed`);
      }
      rate = bytes.readUInt32LE(offset + 12);
    }
    if (name === "data") {
      const data = bytes.subarray(offset + 8, offset + 8 + size);
      const copy = new Int16Array(data.length >> 1);
      new Uint8Array(copy.buffer).set(data.subarray(0, copy.byteLength));
      return { samples: copy, rate };
    }
    offset += 8 + size + (size & 1);
  }
  throw new Error(`${file}: no samples`);
}

/** The samples at another rate. */
export function resampled(samples, from, to) {
  if (from === to) return samples;
  const resampler = new rtc.AudioResampler(from, to, 1, rtc.AudioResamplerQuality.HIGH);
  const frame = new rtc.AudioFrame(samples, from, 1, samples.length);
  const frames = [...resampler.push(frame), ...resampler.flush()];
  const whole = new Int16Array(frames.reduce((sum, one) => sum + one.samplesPerChannel, 0));
  let at = 0;
  for (const one of frames) {
    whole.set(one.data, at);
    at += one.samplesPerChannel;
  }
  return whole;
}

/** Frames of one length; the last one is padded with silence. */
export function* frames(samples, rate, frameMs) {
  const size = Math.floor((rate * frameMs) / 1000);
  for (let start = 0; start < samples.length; start += size) {
    const piece = new Int16Array(size);
    piece.set(samples.subarray(start, start + size));
    yield new rtc.AudioFrame(piece, rate, 1, size);
  }
}

export const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** A wait that keeps real time without drift. */
export function pace(speed = 1) {
  let due = performance.now();
  return (seconds) => {
    due += (seconds * 1000) / speed;
    return sleep(Math.max(0, due - performance.now()) / 1000);
  };
}

/** Arguments with their defaults, as `--some-name value` and positionals. */
export function parsed(options) {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2),
    options,
    allowPositionals: true,
  });
  return { ...values, positionals };
}

/** Run a driver to its end and leave, whatever the client still holds open. */
export async function run(main) {
  agents.initializeLogger({ pretty: false, level: "warn" });
  // as in the client's own job processes: what it rejects after it was left ends nothing else
  process.on("unhandledRejection", (reason) => say("unhandled", errorFields(reason)));
  try {
    await main();
  } catch (error) {
    say("crashed", errorFields(error));
    process.exitCode = 1;
  }
  await sleep(0.2); // what the client still says on closing its sockets
  process.stdout.write("", () => process.exit());
}
