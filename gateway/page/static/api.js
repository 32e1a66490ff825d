// The gateway's API as this page uses it: JSON, and streams of server-sent events.

const KEY = "forethought.api-key";

/** The API key, of this tab alone. */
export const apiKey = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (key) => sessionStorage.setItem(KEY, key),
  forget: () => sessionStorage.removeItem(KEY),
};

/** A request that failed. `status` is 0 where there was no answer, or it broke off. */
export class ServiceError extends Error {
  constructor(message, { status = 0, param = null } = {}) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

/** The JSON at a path. */
export async function get(path) {
  return (await ask(path, {})).json();
}

/** The events of a stream, in order. Throws ServiceError, or an AbortError where `signal` says so. */
export async function* stream(path, body, signal) {
  const response = await ask(path, {
    method: "POST",
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  for await (const data of events(response.body, signal)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new ServiceError(event.error.message, { param: event.error.param });
    yield event;
  }
  throw new ServiceError("The answer broke off: the connection to the service was lost.");
}

async function ask(path, options) {
  const headers = { "Content-Type": "application/json" };
  if (apiKey.get()) headers.Authorization = `Bearer ${apiKey.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ServiceError("The service does not answer. Is it still running?");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response) {
  const status = response.status;
  try {
    const { message, param } = (await response.json()).error;
    return new ServiceError(message, { status, param });
  } catch {
    return new ServiceError(`The service answered with status ${status}.`, { status });
  }
}

async function* events(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) yield part.replace(/^data: /, "");
    }
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ServiceError("The answer broke off: the connection to the service was lost.");
  } finally {
    reader.cancel().catch(() => {});
  }
}
