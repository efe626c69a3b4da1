// Talks to `inference.LLM` of the installed @livekit/agents and prints all that came back.
// See drive_llm.py.

import { agents, errorFields, installed, parsed, run, say } from "./events.mjs";

const { z } = await installed("zod/index.js");
const { inference, llm } = agents;

const everybodys = parsed({
  model: { type: "string", default: "openai/gpt-4.1-mini" },
  provider: { type: "string" },
  tools: { type: "boolean", default: false },
  "follow-up": { type: "boolean", default: false },
  structured: { type: "boolean", default: false },
  extra: { type: "string", default: "{}" },
  retries: { type: "string", default: "0" },
  "timeout-s": { type: "string", default: "10" },
  "stop-after": { type: "string" },
  prewarm: { type: "boolean", default: false },
  together: { type: "boolean", default: false },
});

function offeredTools() {
  const parameters = z.object({ city: z.string() });
  const one = (name, description) =>
    llm.tool({ name, description, parameters, execute: async ({ city }) => `${name} ${city}` });
  return [
    one("get_time", "The time of day in a city."),
    one("get_weather", "The weather in a city."),
  ];
}

/** What the wish for a JSON object of two members looks like. */
function structure() {
  const properties = { city: { type: "string" }, floor: { type: "integer" } };
  const required = Object.keys(properties);
  const schema = { type: "object", properties, required, additionalProperties: false };
  return { type: "json_schema", json_schema: { name: "Place", schema, strict: true } };
}

/** Name, text and options of a conversation. */
function understood(argument) {
  if (argument.startsWith("{")) {
    const { name, text, ...given } = JSON.parse(argument);
    const dashed = Object.entries(given).map(([key, value]) => [key.replaceAll("_", "-"), value]);
    return { name, text, options: { ...everybodys, ...Object.fromEntries(dashed) } };
  }
  const [, model, text] = /^(?:(.*?)::)?(.*)$/s.exec(argument);
  return { name: argument, text, options: { ...everybodys, ...(model ? { model } : {}) } };
}

async function oneAnswer(client, chatCtx, message, options) {
  const made = [];
  let text = "";
  let pieces = 0;
  const stream = client.chat({
    chatCtx,
    ...(options.tools ? { toolCtx: new llm.ToolContext(offeredTools()) } : {}),
    connOptions: {
      maxRetry: Number(options.retries),
      retryIntervalMs: 100,
      timeoutMs: Number(options["timeout-s"]) * 1000,
    },
  });
  const failure = new Promise((resolve) => client.on("error", resolve));
  say("asked", { chat: message });
  try {
    for await (const chunk of stream) {
      if (chunk.delta?.content) {
        text += chunk.delta.content;
        pieces += 1;
        const size = chunk.delta.content.length;
        say("content", { chat: message, text: chunk.delta.content.slice(0, 200), size });
      }
      for (const call of chunk.delta?.toolCalls ?? []) {
        made.push(call);
        const { callId, name, args, extra } = call;
        say("tool_call", { chat: message, call_id: callId, name, arguments: args, extra: extra ?? null });
      }
      if (chunk.usage) {
        const { completionTokens, promptTokens, promptCachedTokens, totalTokens } = chunk.usage;
        say("usage", {
          chat: message,
          completion_tokens: completionTokens,
          prompt_tokens: promptTokens,
          prompt_cached_tokens: promptCachedTokens,
          total_tokens: totalTokens,
        });
      }
      if (options["stop-after"] && pieces >= Number(options["stop-after"])) {
        stream.close();
        say("left", { chat: message });
        return [];
      }
    }
  } catch (error) {
    say("failed", { chat: message, text, ...errorFields(error) });
    return [];
  }
  // A stream that failed ends like one that did not; the error comes as an event of its own.
  const error = await Promise.race([failure, new Promise((done) => setTimeout(done, 50))]);
  if (error) {
    say("failed", { chat: message, text, recoverable: error.recoverable, ...errorFields(error.error) });
    return [];
  }
  say("answered", { chat: message, text: text.slice(0, 2000), size: text.length, pieces, calls: made.length });
  return made;
}

async function converse(argument) {
  const { name: message, text, options } = understood(argument);
  const { model, provider } = options;
  const { extra } = options;
  const modelOptions = typeof extra === "string" ? JSON.parse(extra) : { ...extra };
  if (options.structured) modelOptions.response_format = structure();
  const client = new inference.LLM({ model, provider, modelOptions });
  client.on("error", (error) =>
    say("error", { chat: message, recoverable: error.recoverable, ...errorFields(error.error) }),
  );
  if (options.prewarm) client.prewarm();
  const chatCtx = llm.ChatContext.empty();
  chatCtx.addMessage({ role: "system", content: "You are a test." });
  chatCtx.addMessage({ role: "user", content: text });
  for (let turn = 0; turn < (options["follow-up"] ? 2 : 1); turn += 1) {
    const made = await oneAnswer(client, chatCtx, message, options);
    if (made.length === 0) break;
    for (const call of made) {
      const { callId, name } = call;
      chatCtx.insert([
        llm.FunctionCall.create({ callId, name, args: call.args, extra: call.extra }),
        llm.FunctionCallOutput.create({ callId, name, output: "noon", isError: false }),
      ]);
    }
  }
  await client.aclose?.();
}

await run(async () => {
  if (everybodys.together) {
    await Promise.all(everybodys.positionals.map(converse));
    return;
  }
  for (const argument of everybodys.positionals) await converse(argument);
});
