// Plays recordings to the adaptive interruption detector of the installed @livekit/agents,
// pushing in real time what AgentSession would push. See drive_bargein.py.

import { errorFields, frames, installed, pace, parsed, readWave, resampled, run, say, sleep } from "./events.mjs";

const VAD_DELAY_S = 0.064; // two windows of speech, then AgentSession's VAD says so
const VAD_SILENCE_S = 0.25; // silence after which it says that the user has stopped
const PATIENCE_S = 2; // how long a verdict may take to come

const folder = "@livekit/agents/dist/inference/interruption";
const { AdaptiveInterruptionDetector } = await installed(`${folder}/interruption_detector.js`);
const { InterruptionStreamSentinel } = await installed(`${folder}/interruption_stream.js`);

const options = parsed({
  threshold: { type: "string" },
  rate: { type: "string", default: "24000" },
  "frame-ms": { type: "string", default: "50" },
  "idle-s": { type: "string", default: "0" },
});

function described(clip, event) {
  return {
    clip,
    is_interruption: event.isInterruption,
    agent_ended: event.agentEnded ?? null,
    probability: event.probability,
    frames: event.probabilities?.length ?? null,
    probabilities: (event.probabilities ?? []).map((one) => Number(one.toFixed(3))),
    window_samples: event.speechInput?.length ?? null,
    detection_delay_s: event.detectionDelayInS,
    total_duration_s: event.totalDurationInS,
    prediction_duration_s: event.predictionDurationInS,
    requests: event.numRequests,
  };
}

async function play(argument) {
  const [, clip, times] = /^(.*?)((?::[\d.]+:[\d.]+)+)$/.exec(argument);
  const moments = times.slice(1).split(":").map(Number);
  const { samples, rate: fileRate } = readWave(clip);
  const rate = Number(options.rate);
  const frameMs = Number(options["frame-ms"]);
  const given = options.threshold === undefined ? {} : { threshold: Number(options.threshold) };
  const detector = new AdaptiveInterruptionDetector(given);
  detector.on("error", (error) => say("error", { clip, ...errorFields(error.error ?? error) }));
  const stream = detector.createStream();

  const verdicts = [];
  const interrupted = () => verdicts.some(Boolean);
  let gone = false;
  const listening = (async () => {
    const reader = stream.stream().getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      say("overlapping_speech", described(clip, value));
      verdicts.push(value.isInterruption);
    }
  })()
    .catch((error) => say("failed", { clip, ...errorFields(error) }))
    .finally(() => (gone = true));

  await sleep(Number(options["idle-s"]));
  say("started", { clip, transport: "websocket" });
  await stream.pushFrame(InterruptionStreamSentinel.agentSpeechStarted());
  const wait = pace();
  let heardS = 0;
  let overlapping = false;
  let begun = 0;
  try {
    for (const frame of frames(resampled(samples, fileRate, rate), rate, frameMs)) {
      await wait(frameMs / 1000);
      await stream.pushFrame(frame);
      heardS += frameMs / 1000;
      const [from, until] = moments;
      if (!overlapping && heardS >= from + VAD_DELAY_S) {
        overlapping = true;
        begun += 1;
        say("overlap_started", { clip, late_s: heardS - from });
        const startedAt = Date.now() - VAD_DELAY_S * 1000;
        await stream.pushFrame(
          InterruptionStreamSentinel.overlapSpeechStarted(VAD_DELAY_S * 1000, startedAt),
        );
      }
      if ((overlapping && heardS >= until + VAD_SILENCE_S) || interrupted()) {
        overlapping = false;
        moments.splice(0, 2);
        say("overlap_ended", { clip });
        await stream.pushFrame(InterruptionStreamSentinel.overlapSpeechEnded(Date.now()));
      }
      if (interrupted()) break;
    }
    if (overlapping) {
      await stream.pushFrame(InterruptionStreamSentinel.overlapSpeechEnded(Date.now(), true));
    }
    for (let waited = 0; verdicts.length < begun && !gone && waited < PATIENCE_S; waited += 0.02) {
      await sleep(0.02);
    }
    if (verdicts.length < begun) say("no_verdict", { clip });
    await stream.pushFrame(InterruptionStreamSentinel.agentSpeechEnded());
    await stream.endInput();
    await Promise.race([listening, sleep(5)]);
  } catch (error) {
    say("failed", { clip, ...errorFields(error) });
  } finally {
    await stream.close().catch(() => {});
    say("done", { clip });
  }
}

await run(() => Promise.all(options.positionals.map(play)));
