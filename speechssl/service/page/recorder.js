// The microphone as a WAV of 16 bits, without a codec that not every reader has.

const RATE = 16000;

export class Recorder {
  #context = null;
  #stream = null;
  #blocks = [];
  #num = 0;

  get isRunning() {
    return this.#context !== null;
  }

  /** Begin; `told(level, seconds)` some times a second. Raises where there is no microphone. */
  async start(told) {
    this.#stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false },
    });
    const context = new AudioContext({ sampleRate: RATE });
    await context.audioWorklet.addModule("/page/recorder-worklet.js");
    const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    this.#blocks = [];
    this.#num = 0;
    node.port.onmessage = ({ data }) => {
      this.#blocks.push(data.samples);
      this.#num += data.samples.length;
      told(data.level, this.#num / RATE);
    };
    context.createMediaStreamSource(this.#stream).connect(node);
    this.#context = context;
    addEventListener("beforeunload", this.#warn);
  }

  /** The recording as a Blob. */
  async stop() {
    removeEventListener("beforeunload", this.#warn);
    for (const track of this.#stream.getTracks()) track.stop();
    await this.#context.close();
    this.#context = null;
    const blob = new Blob([wavHeader(this.#num), ...this.#blocks], { type: "audio/wav" });
    this.#blocks = [];
    return blob;
  }

  #warn = (event) => event.preventDefault();
}

function wavHeader(numSamples) {
  const view = new DataView(new ArrayBuffer(44));
  const text = (place, letters) =>
    [...letters].forEach((letter, k) => view.setUint8(place + k, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * numSamples, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * numSamples, true);
  return view.buffer;
}
