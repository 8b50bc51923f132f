/**
 * How numbers and texts stand in frames: api/immortal-protocol.md, section 3.
 *
 * @module
 */

/** A varint has at most so many bytes. */
const VARINT_BYTES_MAX = 10;

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** What the node sent is not what the protocol says. */
export class GarbledError extends Error {}

/** Bytes that grow. */
export class Writer {
  /** @type {Buffer} */
  #bytes = Buffer.allocUnsafe(256);
  length = 0;

  /** @param {number} more */
  #reserve(more) {
    if (this.length + more <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.length + more));
    this.#bytes.copy(larger, 0, 0, this.length);
    this.#bytes = larger;
  }

  /** @param {number} byte */
  u8(byte) {
    this.#reserve(1);
    this.#bytes[this.length] = byte;
    this.length += 1;
  }

  /** @param {number} number */
  u32(number) {
    this.#reserve(4);
    this.#bytes.writeUInt32LE(number, this.length);
    this.length += 4;
  }

  /** @param {number | bigint} number */
  n(number) {
    if (typeof number === "number" && number <= 0x7fffffff && number >= 0) {
      let rest = number;
      for (; rest > 0x7f; rest >>>= 7) this.u8((rest & 0x7f) | 0x80);
      this.u8(rest);
      return;
    }
    let rest = BigInt(number);
    if (rest < 0n || rest >= 2n ** 64n)
      throw new RangeError(`${number} is not a number of 64 bits`);
    for (; rest > 0x7fn; rest >>= 7n) this.u8(Number(rest & 0x7fn) | 0x80);
    this.u8(Number(rest));
  }

  /** @param {number | bigint} number */
  z(number) {
    const big = BigInt(number);
    this.n(big >= 0n ? big << 1n : (-big << 1n) - 1n);
  }

  /** @param {Uint8Array} bytes */
  rest(bytes) {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** @param {Uint8Array} bytes */
  b(bytes) {
    this.n(bytes.length);
    this.rest(bytes);
  }

  /** @param {string} text */
  s(text) {
    this.b(Buffer.from(text));
  }

  /** What was written so far; good until the next thing is written. */
  view() {
    return this.#bytes.subarray(0, this.length);
  }

  /** What was written so far; the writer begins anew. */
  take() {
    const taken = this.view();
    this.#bytes = Buffer.allocUnsafe(256);
    this.length = 0;
    return taken;
  }
}

/** Takes one thing after the other from the front of some bytes. */
export class Reader {
  /** @param {Buffer} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  get isEmpty() {
    return this.at >= this.bytes.length;
  }

  /** @param {number} count */
  take(count) {
    if (this.at + count > this.bytes.length) throw new GarbledError("a frame is cut short");
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  u8() {
    return this.take(1)[0];
  }

  u32() {
    return this.take(4).readUInt32LE(0);
  }

  /**
   * A `bigint` only where a `number` would not be exact.
   *
   * @returns {any} a number, or a bigint
   */
  n() {
    let number = 0;
    for (let at = 0; at < 4; at += 1) {
      const byte = this.u8();
      number |= (byte & 0x7f) << (7 * at);
      if (byte < 0x80) return number;
    }
    let big = BigInt(number);
    for (let at = 4; at < VARINT_BYTES_MAX; at += 1) {
      const byte = this.u8();
      big |= BigInt(byte & 0x7f) << BigInt(7 * at);
      if (byte < 0x80) {
        if (big >= 2n ** 64n) break;
        return big <= Number.MAX_SAFE_INTEGER ? Number(big) : big;
      }
    }
    throw new GarbledError("a number is longer than 64 bits");
  }

  /** @returns {any} a number, or a bigint */
  z() {
    const number = BigInt(this.n());
    const signed = number & 1n ? -(number >> 1n) - 1n : number >> 1n;
    const isSafe = signed <= Number.MAX_SAFE_INTEGER && signed >= Number.MIN_SAFE_INTEGER;
    return isSafe ? Number(signed) : signed;
  }

  b() {
    return this.take(this.n());
  }

  s() {
    try {
      return utf8.decode(this.b());
    } catch (error) {
      if (error instanceof GarbledError) throw error;
      throw new GarbledError("a text is not UTF-8");
    }
  }

  rest() {
    return this.take(this.bytes.length - this.at);
  }
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let crc = index;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/**
 * The checksum of IEEE.
 *
 * @param {Uint8Array} bytes
 */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 0xff];
  return (crc ^ 0xffffffff) >>> 0;
}
