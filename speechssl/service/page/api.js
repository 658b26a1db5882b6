// What the page asks of the service. Errors are sentences for the person.

export class ApiError extends Error {
  constructor(status, message, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let askToken = null;

/** `ask()` resolves when the person has given the service's token. */
export function onTokenNeeded(ask) {
  askToken = ask;
}

/** A Response, or ApiError; status 0 where the service cannot be reached. */
export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The service cannot be reached: is it still running?", "unreachable");
  }
  if (response.status === 401 && askToken && path !== "/session") {
    await askToken();
    return request(path, options);
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response) {
  let body = {};
  try {
    body = (await response.json()).error ?? {};
  } catch {
    // not one of the service's own answers
  }
  const message = body.message ?? `The service answered ${response.status}.`;
  return new ApiError(response.status, message, body.code);
}

const json = async (path, options) => (await request(path, options)).json();
const at = (id, rest = "") => `/desk/recordings/${id}${rest}`;

export const session = (token) =>
  request("/session", { method: "POST", headers: { authorization: `Bearer ${token}` } });

export const recordings = () => json("/desk/recordings");
export const queue = () => json("/desk/queue");
export const audioUrl = (id, form) => at(id, `/audio?form=${form}`);
export const downloadUrl = (id, format) => at(id, `/download?format=${format}`);

/** {recording, tag}: the tag says which version of the corrections it is. */
export async function recording(id) {
  const response = await request(at(id));
  return { recording: await response.json(), tag: response.headers.get("etag") ?? '""' };
}

/** Gives the new tag; ApiError 412 where somebody else has saved since `tag`. */
export async function save(id, segments, tag, keepalive = false) {
  const response = await request(at(id, "/corrections"), {
    method: "PUT",
    headers: { "if-match": tag, "content-type": "application/json" },
    body: JSON.stringify({ segments }),
    keepalive,
  });
  return response.headers.get("etag");
}

/** {perSecond, up, down}: Float32Array of the largest and the negated smallest sample, 0 to 1. */
export async function peaks(id, level, signal) {
  const response = await request(at(id, `/peaks?level=${level}`), { signal });
  const bytes = new Uint8Array(await response.arrayBuffer());
  const num = bytes.length / 2;
  const scaled = (part) => Float32Array.from(part, (value) => value / 255);
  return {
    perSecond: Number(response.headers.get("x-peaks-per-second")),
    up: scaled(bytes.subarray(0, num)),
    down: scaled(bytes.subarray(num)),
  };
}

/** {bytes, rows, perSecond}: rows of frames, the lowest frequency first. */
export async function spectrogramTile(id, number, gainDb, signal) {
  const query = `tile_number=${number}&gain_db=${gainDb}`;
  const response = await request(at(id, `/spectrogram?${query}`), { signal });
  return {
    bytes: new Uint8Array(await response.arrayBuffer()),
    rows: Number(response.headers.get("x-frequencies")),
    perSecond: Number(response.headers.get("x-frames-per-second")),
  };
}

export const transcribe = (id) => json(at(id, "/transcription"), { method: "POST" });
export const transcription = (id) => json(at(id, "/transcription"));
export const learn = (minutes) => json(`/desk/learn?minutes=${minutes}`, { method: "POST" });
export const stopLearning = () => json("/desk/learn", { method: "DELETE" });
export const learning = () => json("/desk/learn");
export const learnEvents = () => new EventSource("/desk/learn/events");

/** Upload with progress, which fetch does not tell. */
export function upload(name, blob, onProgress) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("POST", `/desk/recordings?name=${encodeURIComponent(name)}`);
    call.upload.onprogress = (event) =>
      event.lengthComputable && onProgress(event.loaded / event.total);
    call.onerror = () => reject(new ApiError(0, `${name} was not taken: the connection ended.`));
    call.onload = () => {
      let body = {};
      try {
        body = JSON.parse(call.responseText);
      } catch {
        // not one of the service's own answers
      }
      if (call.status === 201) resolve(body);
      else reject(new ApiError(call.status, body.error?.message ?? `${name} was not taken.`));
    };
    call.send(blob);
  });
}
