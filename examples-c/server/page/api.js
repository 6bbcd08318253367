// The server's HTTP interface. Addresses are relative, so the page also works behind a prefix.

import { apiKey } from './store.js';

/** What the server refused, or how the connection failed (then `status` is 0). */
export class ApiError extends Error {
  constructor(message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    /** Seconds, when the server said after how many to come again. */
    this.retryAfter = retryAfter;
  }
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  const key = apiKey();
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: 'no-store' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The server cannot be reached.');
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Errors are of OpenAI's shape; a proxy may answer with anything. */
async function refusal(response) {
  let message = `The server answered with status ${response.status}.`;
  try {
    const said = (await response.json()).error;
    if (typeof said?.message === 'string' && said.message) message = said.message;
    else if (typeof said === 'string' && said) message = said;
  } catch {
    // Not JSON: the status has to do.
  }
  const seconds = Number.parseInt(response.headers.get('Retry-After') ?? '', 10);
  return new ApiError(message, {
    status: response.status,
    retryAfter: Number.isFinite(seconds) && seconds >= 0 ? seconds : null,
  });
}

export async function getJson(path) {
  const response = await request(path);
  try {
    return await response.json();
  } catch {
    throw new ApiError('The server sent something that is not JSON.', { status: response.status });
  }
}

/** The chunks of an answer as they come. Throws ApiError, or AbortError after `signal`. */
export async function* streamChat(body, signal) {
  const response = await request('v1/chat/completions', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  for await (const data of events(response.body, signal)) {
    if (data === '[DONE]') return;
    let chunk;
    try {
      chunk = JSON.parse(data);
    } catch {
      throw new ApiError('The server sent an event that is not JSON.');
    }
    if (chunk?.error) {
      throw new ApiError(chunk.error.message || 'The server stopped with an error.', { status: chunk.error.code });
    }
    yield chunk;
  }
  throw new ApiError('The connection ended before the answer was complete.');
}

/** The data of server-sent events. */
export async function* events(stream, signal) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  let data = [];
  try {
    for (;;) {
      let part;
      try {
        part = await reader.read();
      } catch (error) {
        if (error.name === 'AbortError' || signal?.aborted) throw error;
        throw new ApiError('The connection was lost.');
      }
      rest += part.done ? decoder.decode() : decoder.decode(part.value, { stream: true });
      const lines = rest.split('\n');
      rest = lines.pop();
      for (const raw of lines) {
        const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
        if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
        else if (line === '' && data.length) {
          yield data.join('\n');
          data = [];
        }
      }
      if (part.done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
