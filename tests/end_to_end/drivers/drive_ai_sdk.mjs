// Vercel's AI SDK against the server: OPENAI_BASE_URL and OPENAI_API_KEY say where.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.cwd()}/package.json`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { generateText, streamText, tool } = await load("ai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { z } = await load("zod");

const began = performance.now();
const say = (event, fields) =>
  console.log(JSON.stringify({ event, at: (performance.now() - began) / 1000, ...fields }));

const [name, prompt] = process.argv.slice(2);
const provider = createOpenAICompatible({
  name: "parley",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
  includeUsage: true,
});
const model = provider(name);
try {
  const whole = await generateText({ model, prompt, maxRetries: 0 });
  say("whole", { text: whole.text, usage: whole.usage });
  let text = "";
  for await (const piece of streamText({ model, prompt, maxRetries: 0 }).textStream) text += piece;
  say("streamed", { text });
  const called = await generateText({
    model,
    prompt: "say: tools",
    maxRetries: 0,
    tools: { get_time: tool({ description: "The time.", inputSchema: z.object({ city: z.string() }) }) },
  });
  say("called", { calls: called.toolCalls.map((one) => ({ name: one.toolName, args: one.input })) });
} catch (error) {
  say("failed", { kind: error.name, message: String(error.message).slice(0, 500), status: error.statusCode });
}
