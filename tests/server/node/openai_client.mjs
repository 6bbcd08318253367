// The official `openai` package for Node, as it is, against the server: its own format of calls is not
// of matter here, so the server has a template with tools.
//
//     node openai_client.mjs URL         (where node_modules holds openai and zod)

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const URL = process.argv[2];
const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const prompt = "The capital of France is";
const messages = [{ role: "user", content: "What is the weather in Paris?" }];
const model = (await client.models.list()).data[0].id;
const settings = { model, max_tokens: 12, temperature: 0 };
const chat = (more) => client.chat.completions.create({ ...settings, messages, ...more });
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const Weather = z.object({ city: z.enum(["Paris", "Rome"]), unit: z.enum(["celsius", "fahrenheit"]) });
const weather = { type: "function", function: { name: "weather" } };

async function allFree() {
  for (let i = 0; i < 500; i++) {
    const slots = await (await fetch(`${URL}/slots`)).json();
    if (!slots.some((slot) => slot.is_processing)) return;
    await sleep(10);
  }
  assert.fail("a slot is at work for nobody");
}

const tests = {
  async models() {
    assert.equal((await client.models.retrieve(model)).id, model);
    await assert.rejects(client.models.retrieve("other"), OpenAI.NotFoundError);
  },

  async completions() {
    const whole = await client.completions.create({ ...settings, prompt, logprobs: 2 });
    const [choice] = whole.choices;
    assert.ok(choice.text.startsWith(" Paris"));
    assert.equal(choice.finish_reason, "length");
    assert.equal(choice.logprobs.tokens.join(""), choice.text);
    assert.equal(whole.usage.completion_tokens, 12);
    let text = "", usage;
    const options = { stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await client.completions.create({ ...settings, prompt, ...options })) {
      text += chunk.choices[0]?.text ?? "";
      usage = chunk.usage;
    }
    assert.equal(text, choice.text);
    assert.equal(usage.completion_tokens, 12);
    const many = await client.completions.create({ ...settings, prompt, n: 2, temperature: 1.5, seed: 3, stop: "\n" });
    assert.equal(many.choices.length, 2);
  },

  async chats() {
    const whole = await chat({ logprobs: true, top_logprobs: 2 });
    const [{ message, logprobs }] = whole.choices;
    assert.equal(message.role, "assistant");
    assert.equal(logprobs.content.map((one) => one.token).join(""), message.content);
    // The package's own reading of a stream.
    let text = "";
    const stream = client.chat.completions.stream({ ...settings, messages });
    stream.on("content", (delta) => (text += delta));
    const end = await stream.finalChatCompletion();
    assert.equal(text, message.content);
    assert.equal(end.choices[0].message.content, message.content);
    const { data, response } = await chat().withResponse();
    assert.equal(response.status, 200);
    assert.equal(data.choices[0].message.content, message.content);
  },

  async schemas() {
    const City = z.object({ name: z.enum(["Paris", "Rome"]), capital: z.boolean() });
    const wanted = { max_tokens: 100, response_format: zodResponseFormat(City, "city") };
    const whole = await client.chat.completions.parse({ ...settings, messages, ...wanted });
    City.parse(whole.choices[0].message.parsed);
    const object = await chat({ max_tokens: 200, response_format: { type: "json_object" } });
    if (object.choices[0].finish_reason === "stop") JSON.parse(object.choices[0].message.content);
    else assert.match(object.choices[0].message.content, /^\s*\{/);
  },

  async tools() {
    const tools = [zodFunction({ name: "weather", parameters: Weather })];
    const demanded = { tools, tool_choice: weather, parallel_tool_calls: false, max_tokens: 100 };
    const choice = (await chat(demanded)).choices[0];
    assert.equal(choice.finish_reason, "tool_calls");
    assert.equal(choice.message.tool_calls.length, 1);
    Weather.parse(JSON.parse(choice.message.tool_calls[0].function.arguments));
    const result = { role: "tool", tool_call_id: choice.message.tool_calls[0].id, content: "Sunny." };
    const after = await chat({ tools, tool_choice: "none", messages: [...messages, choice.message, result] });
    assert.ok(after.choices[0].message.content);

    let name = "", text = "";
    for await (const chunk of await chat({ ...demanded, stream: true })) {
      const part = chunk.choices[0].delta.tool_calls?.[0]?.function;
      name += part?.name ?? "";
      text += part?.arguments ?? "";
    }
    assert.equal(name, "weather");
    assert.equal(text, choice.message.tool_calls[0].function.arguments);
  },

  // The package calls the function itself, and asks again with what it gave.
  async runTools() {
    for (const stream of [false, true]) {
      const asked = [];
      const look = { name: "weather", description: "The weather of a place.", parse: JSON.parse,
                     function: (given) => (asked.push(Weather.parse(given)), "Sunny, 31 degrees."),
                     parameters: z.toJSONSchema(Weather) };
      const runner = client.chat.completions.runTools({
        ...settings, max_tokens: 100, messages, stream, parallel_tool_calls: false,
        tools: [{ type: "function", function: look }], tool_choice: weather,
      });
      const results = [];
      runner.on("functionToolCallResult", (one) => results.push(one));
      await runner.done();
      assert.equal(asked.length, 1);
      assert.deepEqual(results, ["Sunny, 31 degrees."]);
    }
  },

  async embeddings() {
    const input = ["A cat.", "A kitten."];
    const packed = await client.embeddings.create({ model, input });
    const floats = await client.embeddings.create({ model, input, encoding_format: "float" });
    for (const [i, one] of floats.data.entries()) {
      assert.equal(one.embedding.length, 576);
      for (const [j, x] of one.embedding.entries()) assert.ok(Math.abs(x - packed.data[i].embedding[j]) < 1e-6);
    }
  },

  async errors() {
    const refused = (kind, status, words) => (error) =>
      error instanceof kind && error.status === status && error.error.message.includes(words) && Boolean(error.type);
    await assert.rejects(chat({ temperature: "hot" }), refused(OpenAI.BadRequestError, 400, "temperature"));
    await assert.rejects(chat({ messages: [] }), refused(OpenAI.BadRequestError, 400, "messages"));
    await assert.rejects(client.get("/nothing"), refused(OpenAI.NotFoundError, 404, "/v1/nothing"));
    await assert.rejects(client.completions.create({ ...settings, prompt, echo: true }),
                         refused(OpenAI.InternalServerError, 501, "echo"));
    const quick = client.withOptions({ timeout: 200 });
    await assert.rejects(quick.completions.create({ ...settings, prompt, max_tokens: 1500, ignore_eos: true }),
                         OpenAI.APIConnectionTimeoutError);
    await allFree();
  },

  async aborts() {
    const endless = { ...settings, prompt, max_tokens: 1500, ignore_eos: true };
    let n = 0;
    for await (const _ of await client.completions.create({ ...endless, stream: true })) if (++n === 3) break;
    await allFree();
    const control = new AbortController();
    const call = client.completions.create(endless, { signal: control.signal });
    setTimeout(() => control.abort(), 200);
    await assert.rejects(call, OpenAI.APIUserAbortError);
    await allFree();
  },
};

for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log("ok", name);
}
