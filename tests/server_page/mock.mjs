// A server with the interface of examples-c/server and no model: answers, their pace and their faults are
// what a test says. By itself (`node mock.mjs PORT`) it serves the page for looking at.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const PAGE = process.env.POWERINFER_PAGE ??
  path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../examples-c/server/page');

// As the server sends it.
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

export const SPARSE = Array.from({ length: 32 }, (_, layer) => ({
  layer,
  mode: layer === 3 || layer === 17 ? 'off' : 'predictor',
  active_share: 0.05 + 0.12 * (0.5 + 0.5 * Math.sin(layer * 0.7)) + layer * 0.003,
}));

const DENSE_STATS = {
  prompt_tokens_per_second: 812.4,
  generation_tokens_per_second: 41.26,
  slots_busy: 1,
  slots_total: 4,
  queue: 0,
  kv_used: 1234,
  kv_total: 4096,
  active_share: null,
  layers: [],
};

/** What a test may change. */
function defaults() {
  return {
    /** Reply to a request: text, or { pieces, delay (ms each), first (ms), status, error, ... }. */
    reply: () => 'All is well.',
    stats: DENSE_STATS,
    health: 200,
    key: null,
    /** Bodies of the chat requests that came, and how many of them went away early. */
    requests: [],
    gone: 0,
    statsAsked: 0,
  };
}

function refuse(response, status, message, headers = {}) {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
  response.end(JSON.stringify({ error: { message, type: 'invalid_request_error', code: status } }));
}

function json(response, value) {
  response.writeHead(200, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify(value));
}

async function chat(state, body, response) {
  state.requests.push(body);
  const said = state.reply(body, state.requests.length);
  const reply = typeof said === 'string' ? { pieces: said.match(/\s*\S+|\s+$/g) ?? [] } : said;
  if (reply.status) {
    refuse(response, reply.status, reply.error, reply.headers);
    return;
  }
  let open = true;
  response.on('close', () => {
    if (!response.writableFinished && open) state.gone++;
    open = false;
  });
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  const send = (event) => response.write(`data: ${JSON.stringify(event)}\n\n`);
  const chunk = (delta, finish = null) => (
    send({ object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason: finish }] }));
  chunk({ role: 'assistant', content: null });
  if (reply.first) await pause(reply.first);
  for (const piece of reply.pieces) {
    if (!open) return;
    chunk({ content: piece });
    if (reply.delay) await pause(reply.delay);
  }
  if (reply.drop) {
    response.destroy();
    return;
  }
  if (reply.failure) {
    send({ error: { message: reply.failure, type: 'server_error', code: 500 } });
    response.end();
    return;
  }
  chunk({}, reply.finish ?? 'stop');
  const n = reply.pieces.length;
  send({
    choices: [],
    usage: { prompt_tokens: 20, completion_tokens: n, total_tokens: 20 + n },
    timings: {
      prompt_n: 20, prompt_ms: 24.6, prompt_per_second: 812.4,
      predicted_n: n, predicted_ms: n * 24.2, predicted_per_second: 41.26,
    },
  });
  open = false;
  response.end('data: [DONE]\n\n');
}

async function answer(state, request, response) {
  const { pathname } = new URL(request.url, 'http://mock');
  if (request.method === 'GET' && pathname === '/health') {
    if (state.health === 200) json(response, { status: 'ok' });
    else refuse(response, 503, 'Loading model');
    return;
  }
  if (pathname === '/v1/chat/completions' || pathname === '/props' || pathname === '/stats') {
    if (state.key !== null && request.headers.authorization !== `Bearer ${state.key}`) {
      refuse(response, 401, 'Invalid API key');
      return;
    }
  }
  if (pathname === '/v1/chat/completions') {
    const parts = [];
    for await (const part of request) parts.push(part);
    await chat(state, JSON.parse(Buffer.concat(parts).toString()), response);
  } else if (pathname === '/v1/models') {
    json(response, { object: 'list', data: [{ id: 'prosparse-llama-2-7b.gguf', object: 'model' }] });
  } else if (pathname === '/props') {
    json(response, {
      model_path: '/models/prosparse-llama-2-7b.gguf',
      total_slots: 4,
      default_generation_settings: {
        n_ctx: 4096,
        params: { temperature: 0.800000011920929, top_k: 40, top_p: 0.949999988079071, min_p: 0.05000000074505806 },
      },
      chat_template: '',
    });
  } else if (pathname === '/stats') {
    state.statsAsked++;
    json(response, state.stats);
  } else {
    const name = pathname === '/' ? 'index.html' : pathname.slice(1);
    const file = path.join(PAGE, name);
    if (!/^[\w.-]+$/.test(name) || !fs.existsSync(file)) {
      refuse(response, 404, 'File Not Found');
      return;
    }
    response.writeHead(200, {
      'Content-Type': TYPES[path.extname(name)],
      'Content-Security-Policy': POLICY,
      'X-Content-Type-Options': 'nosniff',
      'Referrer-Policy': 'no-referrer',
    });
    response.end(fs.readFileSync(file));
  }
}

/** Starts on a free port; `state` is what tests change, `reset()` puts it back. */
export async function startMock(port = 0) {
  const state = defaults();
  const server = http.createServer((request, response) => {
    answer(state, request, response).catch((error) => response.destroy(error));
  });
  await new Promise((done) => { server.listen(port, '127.0.0.1', done); });
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    state,
    reset: () => Object.assign(state, defaults()),
    close: () => {
      server.closeAllConnections();
      return new Promise((done) => { server.close(done); });
    },
  };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const mock = await startMock(Number(process.argv[2] ?? 8080));
  mock.state.stats = { ...DENSE_STATS, active_share: 0.147, layers: SPARSE };
  mock.state.reply = (body) => ({ pieces: body.messages.at(-1).content.match(/\s*\S+|\s+$/g) ?? [], delay: 40 });
  console.log(mock.url);
}
