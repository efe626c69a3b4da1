// Holds messages of the server against the schemas of the installed @livekit/agents: one JSON
// message a line on standard input, `check_messages.mjs stt|tts|bargein`.

import { readFileSync } from "node:fs";

import { installed, parsed, run, say } from "./events.mjs";

const inference = "@livekit/agents/dist/inference";
const protos = await installed(`${inference}/api_protos.js`);
const { wsMessageSchema } = await installed(`${inference}/interruption/ws_transport.js`);
const SCHEMAS = {
  stt: protos.sttServerEventSchema,
  tts: protos.ttsServerEventSchema,
  bargein: wsMessageSchema,
};

await run(async () => {
  const schema = SCHEMAS[parsed({}).positionals[0]];
  for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
    const result = schema.safeParse(JSON.parse(line));
    const mistakes = result.success
      ? []
      : result.error.issues.map((one) => `${one.path.join(".")}: ${one.message}`);
    say("checked", { message: line, valid: result.success, mistakes });
  }
});
