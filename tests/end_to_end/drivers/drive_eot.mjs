// Plays a recording in real time to `inference.TurnDetector` of the installed @livekit/agents.
// See drive_eot.py.

import { agents, errorFields, frames, pace, parsed, readWave, resampled, run, say } from "./events.mjs";

const PREDICTION_TIMEOUT_MS = 1000; // what AgentSession grants

const options = parsed({
  "ask-at": { type: "string", multiple: true, default: [] },
  language: { type: "string", multiple: true, default: ["en"] },
  rate: { type: "string", default: "24000" },
  "frame-ms": { type: "string", default: "50" },
  "flush-after": { type: "boolean", default: false },
});

async function ask(stream, atS) {
  const askedAt = performance.now();
  const late = new Promise((done) => setTimeout(done, PREDICTION_TIMEOUT_MS, null));
  const event = await Promise.race([stream.predict().await, late]);
  if (event === null) {
    say("no_prediction", { asked_for_s: atS });
    return;
  }
  say("prediction", {
    asked_for_s: atS,
    probability: event.endOfTurnProbability,
    backchannel_probability: event.backchannelProbability ?? null,
    inference_duration_s: event.inferenceDuration ?? null,
    detection_delay_s: event.detectionDelay ?? null,
    waited_s: (performance.now() - askedAt) / 1000,
    model: stream.model,
    is_fallback: stream.isFallback,
  });
}

await run(async () => {
  const { samples, rate: fileRate } = readWave(options.positionals[0]);
  const rate = Number(options.rate);
  const frameMs = Number(options["frame-ms"]);
  const waiting = options["ask-at"].flatMap((one) => one.split(",")).map(Number);
  waiting.sort((a, b) => a - b);
  const detector = new agents.inference.TurnDetector({ version: "v1" });
  const stream = detector.stream();
  say("started");
  const wait = pace();
  let heardS = 0;
  try {
    for (const frame of frames(resampled(samples, fileRate, rate), rate, frameMs)) {
      await wait(frameMs / 1000);
      await stream.pushAudio(frame);
      heardS += frameMs / 1000;
      if (waiting.length > 0 && heardS >= waiting[0]) {
        await ask(stream, waiting.shift());
        if (options["flush-after"]) stream.flush();
      }
    }
    for (const language of options.language) {
      say("thresholds", {
        language,
        unlikely: (await stream.unlikelyThreshold(language)) ?? null,
        backchannel: (await stream.backchannelThreshold(language)) ?? null,
      });
    }
    say("done", { is_fallback: stream.isFallback });
  } catch (error) {
    say("failed", errorFields(error));
  } finally {
    await stream.aclose();
  }
});
