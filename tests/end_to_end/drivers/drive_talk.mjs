// A call of the installed @livekit/agents in which everything goes on at the same time.
// See drive_talk.py.

import { agents, errorFields, frames, installed, pace, parsed, readWave, rtc, run, say, sleep } from "./events.mjs";

const { inference, llm, stt, tts } = agents;
const folder = "@livekit/agents/dist/inference/interruption";
const { AdaptiveInterruptionDetector } = await installed(`${folder}/interruption_detector.js`);
const { InterruptionStreamSentinel } = await installed(`${folder}/interruption_stream.js`);
const { apiConnectDefaults } = await installed(`${folder}/defaults.js`);

const FRAME_MS = 50;
const DETECTOR_RATE = 16000;
const VERDICT_S = 5;
const PREDICTION_S = 1; // AgentSession's own: then the detector is given up
const PAUSE_S = 0.5;
const CALM_S = 3; // between two overlaps
const FINALS_S = 10;
const SENTENCE = "Hello there, my friend, how are you today.";

const { samples, rate } = readWave(parsed({}).positionals[0]);
let over = false;
let end;
const ended = new Promise((resolve) => (end = resolve)).then(() => (over = true));
process.stdin.on("end", () => end());
process.stdin.resume();

const pause = (seconds) => Promise.race([ended, sleep(seconds)]);

const troubles = (part) => (error) =>
  say("trouble", { part, recoverable: error.recoverable, ...errorFields(error.error ?? error) });

async function repeat(name, once, pauseS) {
  do {
    const began = performance.now();
    try {
      const ok = await once();
      say(name, { ok, took_s: Number(((performance.now() - began) / 1000).toFixed(2)) });
    } catch (error) {
      say(name, { ok: false, ...errorFields(error) });
    }
    await pause(pauseS);
  } while (!over);
}

async function listen() {
  const recogniser = new inference.STT({ model: "deepgram/nova-3", language: "en" });
  recogniser.on("error", troubles("stt"));
  const stream = recogniser.stream();
  let done = false;
  const hearing = (async () => {
    for await (const event of stream) {
      if (event.type === stt.SpeechEventType.FINAL_TRANSCRIPT) {
        say("final", { text: event.alternatives[0].text });
      }
    }
  })()
    .catch((error) => say("lost", { part: "stt", ...errorFields(error) }))
    .finally(() => (done = true));
  const wait = pace();
  let loops = 0;
  while (!done && !(over && loops)) {
    for (const frame of frames(samples, rate, FRAME_MS)) {
      await wait(FRAME_MS / 1000);
      if (!done) stream.pushFrame(frame);
    }
    loops += 1;
  }
  if (!done) stream.endInput();
  await Promise.race([hearing, sleep(FINALS_S)]);
  say("spoken", { loops });
  stream.close();
}

async function reply() {
  const model = new inference.LLM({ model: "openai/gpt-4.1-mini" });
  let failed = false;
  model.on("error", (error) => {
    failed = failed || !error.recoverable;
    troubles("chat")(error);
  });
  const chatCtx = llm.ChatContext.empty();
  chatCtx.addMessage({ role: "user", content: "Hello" });
  let first = "";
  await repeat(
    "reply",
    async () => {
      let text = "";
      failed = false;
      for await (const chunk of model.chat({ chatCtx })) text += chunk.delta?.content ?? "";
      first ||= text;
      return !failed && text !== "" && text === first;
    },
    PAUSE_S,
  );
  await model.aclose?.();
}

async function speak() {
  const voice = new inference.TTS({ model: "cartesia/sonic-3", voice: "v" });
  voice.on("error", troubles("tts"));
  let first = 0;
  await repeat(
    "utterance",
    async () => {
      let size = 0;
      const stream = voice.stream();
      const writing = (async () => {
        for (const word of SENTENCE.split(" ")) {
          stream.pushText(`${word} `);
          await sleep(0.1); // as a model writes
        }
        stream.endInput();
      })();
      for await (const event of stream) {
        if (event !== tts.SynthesizeStream.END_OF_STREAM) size += event.frame.data.byteLength;
      }
      await writing;
      stream.close();
      first ||= size;
      return size > 0 && size === first;
    },
    PAUSE_S,
  );
  await voice.close?.();
}

async function overlap() {
  const detector = new AdaptiveInterruptionDetector();
  const told = troubles("bargein");
  const loud = new Int16Array((DETECTOR_RATE * FRAME_MS) / 1000).fill(32767);
  const { maxRetries, retryInterval } = apiConnectDefaults;
  let stream;
  let verdicts = [];
  let lost = false;

  // as AgentSession does it: a stream that failed is followed by another
  const listening = (async () => {
    for (let retries = 0; !over; retries += 1) {
      stream = detector.createStream();
      const reader = stream.stream().getReader();
      try {
        for (;;) {
          const { done, value } = await reader.read();
          if (done) return;
          retries = 0;
          verdicts.push(value.isInterruption);
        }
      } catch (error) {
        const recoverable = Boolean(error.retryable) && retries < maxRetries;
        told({ error, recoverable });
        if (!recoverable) {
          lost = true;
          return;
        }
        await sleep((retryInterval * 2 ** retries) / 1000);
      }
    }
  })();

  await repeat(
    "overlap",
    async () => {
      verdicts = [];
      const wait = pace();
      const push = (frame) => stream.pushFrame(frame);
      await push(InterruptionStreamSentinel.agentSpeechStarted());
      await push(InterruptionStreamSentinel.overlapSpeechStarted(0, Date.now()));
      for (let sentS = 0; sentS < VERDICT_S && verdicts.length === 0; sentS += FRAME_MS / 1000) {
        await wait(FRAME_MS / 1000);
        await push(new rtc.AudioFrame(loud, DETECTOR_RATE, 1, loud.length));
      }
      await push(InterruptionStreamSentinel.overlapSpeechEnded(Date.now()));
      await push(InterruptionStreamSentinel.agentSpeechEnded());
      return verdicts[0] ?? false;
    },
    CALM_S,
  );
  say("detector", { part: "bargein", lost });
  await Promise.race([stream.close().catch(() => {}), sleep(1)]);
  await Promise.race([listening, sleep(1)]);
}

async function turn() {
  const detector = new inference.TurnDetector({ version: "v1" });
  const stream = detector.stream();
  await sleep(1); // it drops what is pushed before it is connected
  const lost = () => detector.model !== "turn-detector-v1";
  await repeat(
    "turn",
    async () => {
      const wait = pace();
      for (const frame of [...frames(samples, rate, FRAME_MS)].slice(0, 20)) {
        await wait(FRAME_MS / 1000);
        stream.pushAudio(frame);
      }
      const event = await Promise.race([stream.predict().await, sleep(PREDICTION_S)]);
      stream.flush("turn committed");
      return event !== undefined && !lost();
    },
    PAUSE_S,
  );
  say("detector", { part: "eot", lost: lost() });
  await Promise.race([stream.aclose().catch(() => {}), sleep(5)]);
}

await run(async () => {
  const parts = { listen, reply, speak, overlap, turn };
  say("begun");
  await Promise.all(
    Object.entries(parts).map(([part, go]) =>
      go().catch((error) => say("lost", { part, ...errorFields(error) })),
    ),
  );
  say("ended");
});
