export class Outputs {
    /** @param {number} frameBytesMax */
    constructor(frameBytesMax: number);
    frameBytesMax: number;
    /** One chunk may be so long. */
    chunkBytes: number;
    /**
     * @param {string} to
     * @param {import("./frames.js").Frame} message
     */
    send(to: string, message: import("./frames.js").Frame): void;
    /**
     * A frame after all that was said so far.
     *
     * @param {import("./frames.js").Frame} frame
     */
    frame(frame: import("./frames.js").Frame): void;
    /** All that was said, as bytes to be written. */
    take(): Buffer<ArrayBufferLike>;
    #private;
}
