// Plays recordings to the streaming turn detector of the installed @livekit/agents.
//
// What AgentSession would do is done, in real time: microphone audio flows all the time, a
// prediction is wanted once the user has been silent for 0.2 s, and a committed turn is flushed.
// One session hears all recordings, one after the other.

import { agents, errorFields, frames, pace, parsed, readWave, resampled, run, say, sleep } from "./events.mjs";

const SILENCE_S = 0.2; // of voice activity detection, before a prediction is asked for
const PREDICTION_TIMEOUT_S = 1.0; // AgentSession's own: then the detector is given up

const options = parsed({
  rate: { type: "string", default: "24000" }, // AgentSession's own
  "frame-ms": { type: "string", default: "50" },
  speed: { type: "string", default: "1" },
  "no-flush": { type: "boolean", default: false },
});

async function predicted(stream, clip) {
  const future = stream.predict();
  const event = await Promise.race([future.await, sleep(PREDICTION_TIMEOUT_S)]);
  if (event === undefined) {
    say("no_prediction", { clip });
    return;
  }
  say("prediction", {
    clip,
    probability: event.endOfTurnProbability,
    threshold: (await stream.unlikelyThreshold(undefined)) ?? null,
    backchannel_probability: event.backchannelProbability ?? null,
    backchannel_threshold: (await stream.backchannelThreshold(undefined)) ?? null,
    detection_delay_s: event.detectionDelay === undefined ? null : event.detectionDelay / 1000,
    inference_s: event.inferenceDuration === undefined ? null : event.inferenceDuration / 1000,
  });
}

async function main() {
  const rate = Number(options.rate);
  const frameMs = Number(options["frame-ms"]);
  const detector = new agents.inference.TurnDetector({ version: "v1" });
  detector.on("metrics_collected", (metrics) =>
    say("metrics", {
      total_s: metrics.totalDuration / 1000,
      detection_delay_s: metrics.detectionDelay / 1000,
      prediction_s: metrics.predictionDuration / 1000,
    }),
  );
  const stream = detector.stream();
  try {
    await sleep(1); // it drops what is pushed before it is connected
    for (const argument of options.positionals) {
      const split = argument.lastIndexOf(":");
      const clip = argument.slice(0, split);
      const endS = Number(argument.slice(split + 1));
      const { samples, rate: fileRate } = readWave(clip);
      const wait = pace(Number(options.speed));
      let heardS = 0;
      let asking;
      for (const frame of frames(resampled(samples, fileRate, rate), rate, frameMs)) {
        await wait(frameMs / 1000);
        stream.pushAudio(frame);
        heardS += frameMs / 1000;
        if (asking === undefined && heardS >= endS + SILENCE_S) asking = predicted(stream, clip);
      }
      await asking;
      if (!options["no-flush"]) stream.flush("turn committed");
    }
    say("ended", { degraded: detector.model !== "turn-detector-v1", model: detector.model });
  } catch (error) {
    say("failed", errorFields(error));
  } finally {
    await Promise.race([stream.aclose().catch(() => {}), sleep(5)]);
    say("done");
  }
}

await run(main);
