// Samples of the microphone in blocks of a quarter of a second, as 16-bit integers.

const BLOCK = 4000;

class RecorderProcessor extends AudioWorkletProcessor {
  #samples = new Int16Array(BLOCK);
  #num = 0;
  #level = 0;

  process([[channel]]) {
    for (const value of channel ?? []) {
      const inRange = Math.max(-1, Math.min(1, value));
      this.#level = Math.max(this.#level, Math.abs(inRange));
      this.#samples[this.#num++] = Math.round(32767 * inRange);
      if (this.#num === BLOCK) {
        this.port.postMessage({ samples: this.#samples, level: this.#level });
        this.#samples = new Int16Array(BLOCK);
        this.#num = 0;
        this.#level = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", RecorderProcessor);
